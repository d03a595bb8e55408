//! Whether an answer says the same as the gold answer.

use super::fuel::Fuel;
use super::relations::{self, is_assignment, is_equation};
use super::tree::Tree;
use super::{algebra, matrices, scalars, sets};
use num_rational::BigRational;
use std::collections::HashSet;

/// `None` where that cannot be told. Not symmetric: a gold tuple fixes the order, a gold set does not.
pub(super) fn same(gold: &Tree, answer: &Tree, fuel: &mut Fuel) -> Option<bool> {
    fuel.spend(5)?;
    if gold == answer {
        return Some(true);
    }
    let (gold, answer) = unwrapped(gold, answer)?;
    let (gold, answer) = (&gold, &answer);
    match (gold, answer) {
        (Tree::Relation { sides: a, orders: x }, Tree::Relation { sides: b, orders: y }) => {
            let same = relations::same_chain((a, x), (b, y), fuel);
            if same != Some(true) && sets::is_range(gold) && sets::is_range(answer) {
                return sets::same_range(gold, answer, fuel).or(same);
            }
            same
        }
        _ if sets::is_range(gold) || sets::is_range(answer) => sets::same_range(gold, answer, fuel),
        (Tree::Matrix(gold), Tree::Matrix(answer)) => same_matrix(gold, answer, fuel),
        (Tree::Text(_), _) | (_, Tree::Text(_)) => same_text(gold, answer),
        _ => match (parts(gold), parts(answer)) {
            (Some(gold_parts), Some(answer_parts)) if matches!(gold, Tree::Tuple(_)) => {
                same_in_order(gold_parts, answer_parts, fuel)
            }
            (Some(gold_parts), Some(answer_parts))
                if matches!(answer, Tree::Tuple(_)) && is_point(gold_parts) =>
            {
                let mut sorted = gold_parts.to_vec();
                sorted.sort_by_key(relations::name);
                let given = same_in_order(gold_parts, answer_parts, fuel)?;
                Some(given || same_in_order(&sorted, answer_parts, fuel)?)
            }
            (Some(gold_parts), Some(answer_parts)) => same_elements(gold_parts, answer_parts, fuel),
            (Some(gold_parts), None) if !matches!(gold, Tree::Tuple(_)) => {
                same_elements(gold_parts, std::slice::from_ref(answer), fuel)
            }
            (None, Some(answer_parts)) if !matches!(answer, Tree::Tuple(_)) => {
                same_elements(std::slice::from_ref(gold), answer_parts, fuel)
            }
            (None, None) if is_scalar(gold) && is_scalar(answer) => same_scalar(gold, answer, fuel),
            _ => Some(false),
        },
    }
}

/// Without the names in front: what `x = 5` comes to, where the other side is no equation.
fn unwrapped(gold: &Tree, answer: &Tree) -> Option<(Tree, Tree)> {
    let (gold, answer) = (shortened(&matrices::computed(gold)), shortened(&matrices::computed(answer)));
    let is_relation = |tree: &Tree| matches!(tree, Tree::Relation { .. });
    match (&gold, &answer) {
        (_, Tree::Relation { sides, .. }) if is_equation(&answer) && !is_relation(&gold) => {
            let result = relations::result(sides)?;
            Some((gold, matrices::computed(&result)))
        }
        (Tree::Relation { sides, .. }, _) if is_value(&gold) && !is_relation(&answer) => {
            let result = relations::result(sides)?;
            Some((matrices::computed(&result), answer))
        }
        _ => Some((gold, answer)),
    }
}

/// Whether an equation stands for its result: it names it, or is a chain that ends with it.
fn is_value(tree: &Tree) -> bool {
    let chain = matches!(tree, Tree::Relation { sides, .. } if sides.len() > 2);
    is_assignment(tree) || (chain && is_equation(tree))
}

/// The name and the result of a chain such as `z = 1 + 1 = 2`.
fn shortened(tree: &Tree) -> Tree {
    match tree {
        Tree::Relation { sides, orders } if sides.len() > 2 && is_assignment(tree) => {
            let ends = [sides.first(), sides.last()].into_iter().flatten().cloned().collect();
            Tree::Relation { sides: ends, orders: orders[..1].to_vec() }
        }
        _ => tree.clone(),
    }
}

fn parts(tree: &Tree) -> Option<&[Tree]> {
    match tree {
        Tree::Tuple(parts) | Tree::Set(parts) | Tree::List(parts) => Some(parts),
        _ => None,
    }
}

/// Whether the parts give values to different names, as in `x = 1, y = 2`, so that a tuple has them in order.
fn is_point(parts: &[Tree]) -> bool {
    let names: Option<HashSet<String>> = parts.iter().map(relations::name).collect();
    names.is_some_and(|names| names.len() == parts.len())
}

fn is_scalar(tree: &Tree) -> bool {
    !matches!(tree, Tree::Relation { .. } | Tree::Matrix(_))
}

fn same_in_order(gold: &[Tree], answer: &[Tree], fuel: &mut Fuel) -> Option<bool> {
    if gold.len() != answer.len() {
        return Some(false);
    }
    for (gold, answer) in gold.iter().zip(answer) {
        if !same(gold, answer, fuel)? {
            return Some(false);
        }
    }
    Some(true)
}

/// Whether every element of one is in the other.
fn same_elements(gold: &[Tree], answer: &[Tree], fuel: &mut Fuel) -> Option<bool> {
    let mut met = vec![false; answer.len()];
    for gold in gold {
        let mut found = false;
        for (answer, met) in answer.iter().zip(&mut met) {
            if same(gold, answer, fuel)? {
                (found, *met) = (true, true);
            }
        }
        if !found {
            return Some(false);
        }
    }
    Some(met.into_iter().all(|met| met))
}

fn same_matrix(gold: &[Vec<Tree>], answer: &[Vec<Tree>], fuel: &mut Fuel) -> Option<bool> {
    if gold.len() != answer.len() {
        return Some(false);
    }
    for (gold, answer) in gold.iter().zip(answer) {
        if !same_in_order(gold, answer, fuel)? {
            return Some(false);
        }
    }
    Some(true)
}

/// Words against words, or against letters that a formula reads as a product. A number in words is not told.
fn same_text(gold: &Tree, answer: &Tree) -> Option<bool> {
    match (letters(gold), letters(answer)) {
        (Some(gold), Some(answer)) => Some(gold == answer),
        (Some(_), None) => Some(false),
        _ => None,
    }
}

fn letters(tree: &Tree) -> Option<String> {
    match tree {
        Tree::Text(text) => {
            Some(text.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase())
        }
        Tree::Symbol(name) => Some(name.to_lowercase()),
        Tree::E => Some("e".into()),
        Tree::I => Some("i".into()),
        Tree::Product(parts) => parts.iter().map(letters).collect(),
        _ => None,
    }
}

fn same_scalar(gold: &Tree, answer: &Tree, fuel: &mut Fuel) -> Option<bool> {
    match (gold, answer) {
        (Tree::Quantity(gold, a), Tree::Quantity(answer, b)) => {
            Some(a == b && same_scalar(gold, answer, fuel)?)
        }
        (Tree::Quantity(gold, _), answer) => same_scalar(gold, answer, fuel),
        (gold, Tree::Quantity(answer, _)) => same_scalar(gold, answer, fuel),
        (Tree::Based { digits: a, base: x }, Tree::Based { digits: b, base: y }) => {
            let (gold, answer) = (algebra::based(a, *x), algebra::based(b, *y));
            Some((a == b && x == y) || (gold.is_some() && gold == answer))
        }
        (Tree::Based { digits, .. }, Tree::Number(number))
        | (Tree::Number(number), Tree::Based { digits, .. }) => Some(number.to_string() == *digits),
        (Tree::Symbol(a), Tree::Symbol(b)) if a.len() == 1 && b.len() == 1 => Some(a.eq_ignore_ascii_case(b)),
        _ => match (share(gold), share(answer)) {
            (Some(gold), Some(answer)) => scalars::same(&gold, &answer, fuel),
            // Whether an answer in per cent is asked for cannot be told from the gold answer.
            (Some(share), None) => Some(same_share(&share, answer, fuel)?),
            (None, Some(share)) => Some(same_share(&share, gold, fuel)?),
            (None, None) => scalars::same(gold, answer, fuel),
        },
    }
}

/// The number before a per cent sign.
fn share(tree: &Tree) -> Option<Tree> {
    match tree {
        Tree::Percent(value) => Some((**value).clone()),
        Tree::Negative(value) => Some(share(value)?.negative()),
        _ => None,
    }
}

fn same_share(share: &Tree, other: &Tree, fuel: &mut Fuel) -> Option<bool> {
    let hundred = Tree::Number(BigRational::from_integer(100.into()));
    let part = Tree::Quotient(Box::new(share.clone()), Box::new(hundred));
    Some(scalars::same(share, other, fuel)? || scalars::same(&part, other, fuel)?)
}
