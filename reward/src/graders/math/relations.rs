//! Whether two relations say the same, either way round.

use super::equality::same;
use super::fuel::Fuel;
use super::scalars::{self, Multiple};
use super::tree::{Order, Tree};

/// A chain of sides, and the orders between them.
pub(super) type Chain<'a> = (&'a [Tree], &'a [Order]);

/// `None` where that cannot be told.
pub(super) fn same_chain(gold: Chain, answer: Chain, fuel: &mut Fuel) -> Option<bool> {
    if gold.1.len() != answer.1.len() {
        return Some(false);
    }
    let reversed: Vec<Tree> = answer.0.iter().rev().cloned().collect();
    let mirrored: Option<Vec<Order>> = answer.1.iter().rev().map(|order| order.mirrored()).collect();
    let ways = [Some((answer.0, answer.1)), mirrored.as_deref().map(|orders| (&reversed[..], orders))];
    let mut told = Some(false);
    if let ([gold_name, gold_value], [name, value]) = (gold.0, answer.0)
        && [gold.1, answer.1].iter().all(|orders| **orders == [Order::Equal])
        && names_match(gold_name, name)
        && !gold_value.has_symbol()
    {
        return same(gold_value, value, fuel);
    }
    for (sides, orders) in ways.into_iter().flatten().filter(|(_, orders)| *orders == gold.1) {
        match (same_sides(gold.0, sides, fuel), orders) {
            (Some(true), _) => return Some(true),
            (_, [order]) => match (same_zero(gold.0, sides, fuel), order) {
                (Some(Multiple::Positive), _) | (Some(Multiple::Other), Order::Equal | Order::Unequal) => {
                    return Some(true);
                }
                (Some(_), _) => {}
                (None, _) => told = None,
            },
            (Some(false), _) => {}
            (None, _) => told = None,
        }
    }
    told
}

/// Whether two names may stand for the same: `x` and `x_1`, `W(n)` and `W(x)`.
fn names_match(a: &Tree, b: &Tree) -> bool {
    match (a, b) {
        (Tree::Symbol(a), Tree::Symbol(b)) => {
            let plain = |name: &str, other: &str| other.split_once('_').is_some_and(|(stem, _)| stem == name);
            plain(a, b) || plain(b, a)
        }
        (Tree::Product(a), Tree::Product(b)) => match (a.as_slice(), b.as_slice()) {
            ([Tree::Symbol(a), Tree::Symbol(_)], [Tree::Symbol(b), Tree::Symbol(_)]) => a == b,
            _ => false,
        },
        _ => false,
    }
}

fn same_sides(gold: &[Tree], answer: &[Tree], fuel: &mut Fuel) -> Option<bool> {
    for (gold, answer) in gold.iter().zip(answer) {
        if !same(gold, answer, fuel)? {
            return Some(false);
        }
    }
    Some(true)
}

fn same_zero(gold: &[Tree], answer: &[Tree], fuel: &mut Fuel) -> Option<Multiple> {
    scalars::multiple(&difference(gold)?, &difference(answer)?, fuel)
}

fn difference(sides: &[Tree]) -> Option<Tree> {
    match sides {
        [left, right] => Some(Tree::Sum(vec![left.clone(), right.clone().negative()])),
        _ => None,
    }
}

/// Whether a relation is an equation, or a chain of them.
pub(super) fn is_equation(tree: &Tree) -> bool {
    matches!(tree, Tree::Relation { orders, .. } if orders.iter().all(|order| *order == Order::Equal))
}

/// Whether an equation gives a name to a value, such as `x = 5` or `f(2) = 5`.
pub(super) fn is_assignment(tree: &Tree) -> bool {
    is_equation(tree) && matches!(tree, Tree::Relation { sides, .. } if sides.first().is_some_and(is_name))
}

/// The symbol to which an equation gives a value.
pub(super) fn name(tree: &Tree) -> Option<String> {
    match tree {
        Tree::Relation { sides, .. } if is_equation(tree) => match sides.first() {
            Some(Tree::Symbol(name)) => Some(name.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// Made of symbols alone, such as `x`, `f(2)`, `AB : BC` and `x + y`.
fn is_name(tree: &Tree) -> bool {
    match tree {
        Tree::Symbol(_) | Tree::Text(_) | Tree::Apply(..) | Tree::E | Tree::I => true,
        // `f(2)` reads as a product.
        Tree::Product(parts) => {
            matches!(parts.first(), Some(Tree::Symbol(_)))
                && parts.iter().all(|part| is_name(part) || matches!(part, Tree::Number(_)))
        }
        Tree::Sum(parts) | Tree::Call(_, parts) | Tree::Tuple(parts) => parts.iter().all(is_name),
        Tree::Quotient(above, below) => is_name(above) && is_name(below),
        _ => false,
    }
}

/// What an equation comes to: its last side, or the first one in `5 = x`.
pub(super) fn result(sides: &[Tree]) -> Option<Tree> {
    let (first, last) = (sides.first()?, sides.last()?);
    let turned = matches!(last, Tree::Symbol(_)) && !first.has_symbol();
    Some(if turned { first.clone() } else { last.clone() })
}
