//! Sets of real numbers, as disjoint intervals in order.

use super::equality::same;
use super::fuel::Fuel;
use super::scalars::value;
use super::tree::{Function, Interval, Order, Tree};

/// Sets of more pieces are not compared.
const MOST_PIECES: usize = 50;

/// An interval, with the values of its ends. A point is an interval that is closed at both ends.
#[derive(Debug, Clone)]
struct Piece {
    interval: Interval,
    low: f64,
    high: f64,
}

/// Whether a tree is an interval or a set made of intervals.
pub(super) fn is_range(tree: &Tree) -> bool {
    match tree {
        Tree::Interval(_) | Tree::Union(_) | Tree::Difference(..) => true,
        Tree::Symbol(name) => name == "ℝ",
        Tree::Relation { sides, orders } => {
            (sides.iter().any(is_variable) || absolute(sides).is_some())
                && orders.iter().all(|order| *order != Order::Equal)
        }
        _ => false,
    }
}

/// What a condition is about: the `x` of `1 < x < 2`, or of all parts of a union.
fn variable(tree: &Tree) -> Option<&Tree> {
    match tree {
        Tree::Relation { sides, .. } => match absolute(sides) {
            Some((_, [x])) => Some(x),
            None => sides.iter().find(|side| is_variable(side)),
        },
        Tree::Union(parts) => parts.iter().find_map(variable),
        _ => None,
    }
}

/// Whether two sets are the same; `None` where that cannot be told.
pub(super) fn same_range(gold: &Tree, answer: &Tree, fuel: &mut Fuel) -> Option<bool> {
    if let (Some(gold), Some(answer)) = (variable(gold), variable(answer))
        && gold != answer
    {
        return Some(false);
    }
    if let (Some(gold), Some(answer)) = (interval(gold), interval(answer)) {
        return same_interval(&gold, &answer, fuel);
    }
    let (gold, answer) = match (pieces(gold, fuel), pieces(answer, fuel)) {
        (Some(gold), Some(answer)) => (gold, answer),
        (Some(_), None) => return Some(false),
        _ => return None,
    };
    if gold.len() != answer.len() {
        return Some(false);
    }
    for (gold, answer) in gold.iter().zip(&answer) {
        if !same_interval(&gold.interval, &answer.interval, fuel)? {
            return Some(false);
        }
    }
    Some(true)
}

fn interval(tree: &Tree) -> Option<Interval> {
    match tree {
        Tree::Interval(interval) => Some((**interval).clone()),
        Tree::Tuple(parts) => match parts.as_slice() {
            [low, high] => Some(open(low.clone(), high.clone())),
            _ => None,
        },
        _ => None,
    }
}

fn open(low: Tree, high: Tree) -> Interval {
    Interval { low, high, low_closed: false, high_closed: false }
}

/// An end at infinity is neither open nor closed.
fn same_interval(a: &Interval, b: &Interval, fuel: &mut Fuel) -> Option<bool> {
    let low = a.low_closed == b.low_closed || is_infinite(&a.low);
    let high = a.high_closed == b.high_closed || is_infinite(&a.high);
    Some(low && high && same(&a.low, &b.low, fuel)? && same(&a.high, &b.high, fuel)?)
}

fn is_infinite(tree: &Tree) -> bool {
    match tree {
        Tree::Infinity => true,
        Tree::Negative(inner) => **inner == Tree::Infinity,
        _ => false,
    }
}

/// Disjoint pieces in order; `None` for what is no set of reals.
fn pieces(tree: &Tree, fuel: &mut Fuel) -> Option<Vec<Piece>> {
    fuel.spend(5)?;
    let found = match tree {
        Tree::Interval(_) | Tree::Tuple(_) => vec![piece(interval(tree)?, fuel)?],
        Tree::Symbol(name) if name == "ℝ" => vec![piece(open(minus_infinity(), Tree::Infinity), fuel)?],
        Tree::Set(points) => points.iter().map(|point| piece(at(point), fuel)).collect::<Option<_>>()?,
        Tree::Union(parts) => {
            let parts: Option<Vec<_>> = parts.iter().map(|part| pieces(part, fuel)).collect();
            parts?.concat()
        }
        Tree::Difference(left, right) => without(pieces(left, fuel)?, &pieces(right, fuel)?),
        Tree::Relation { sides, orders } => solved(sides, orders, fuel)?,
        _ => return None,
    };
    (found.len() <= MOST_PIECES).then(|| merged(found))
}

fn minus_infinity() -> Tree {
    Tree::Infinity.negative()
}

fn at(point: &Tree) -> Interval {
    Interval { low: point.clone(), high: point.clone(), low_closed: true, high_closed: true }
}

fn piece(interval: Interval, fuel: &mut Fuel) -> Option<Piece> {
    let (low, high) = (value(&interval.low, fuel)?, value(&interval.high, fuel)?);
    (low <= high).then_some(Piece { interval, low, high })
}

/// The solutions of `x < 2`, `1 < x ≤ 2` and the like.
fn solved(sides: &[Tree], orders: &[Order], fuel: &mut Fuel) -> Option<Vec<Piece>> {
    if let Some((at, [x])) = absolute(sides) {
        let mut sides = sides.to_vec();
        sides[at] = x.clone();
        return solved(&sides, orders, fuel).map(mirrored);
    }
    match (sides, orders) {
        ([x, bound], [order]) if is_variable(x) => ray(bound, *order, fuel),
        ([bound, x], [order]) if is_variable(x) => ray(bound, order.mirrored()?, fuel),
        ([low, x, high], [first, second]) if is_variable(x) => {
            let (low, high, first, second) = match first {
                Order::Less | Order::AtMost => (low, high, *first, *second),
                _ => (high, low, second.mirrored()?, first.mirrored()?),
            };
            let rising = |order| matches!(order, Order::Less | Order::AtMost);
            let (low_closed, high_closed) = (first == Order::AtMost, second == Order::AtMost);
            let between = Interval { low: low.clone(), high: high.clone(), low_closed, high_closed };
            (rising(first) && rising(second)).then(|| piece(between, fuel))?.map(|piece| vec![piece])
        }
        _ => None,
    }
}

/// The side that is |x|, and its x.
fn absolute(sides: &[Tree]) -> Option<(usize, &[Tree; 1])> {
    sides.iter().enumerate().find_map(|(at, side)| match side {
        Tree::Call(Function::Abs, parts) => {
            let x: &[Tree; 1] = parts.as_slice().try_into().ok()?;
            is_variable(&x[0]).then_some((at, x))
        }
        _ => None,
    })
}

/// The solutions for x of what holds for |x|.
fn mirrored(pieces: Vec<Piece>) -> Vec<Piece> {
    let mirror = |piece: &Piece| {
        let Interval { low, high, low_closed, high_closed } = piece.interval.clone();
        let (low, high) = (high.negative(), low.negative());
        let interval = Interval { low, high, low_closed: high_closed, high_closed: low_closed };
        Piece { interval, low: -piece.high, high: -piece.low }
    };
    let from_zero = |mut piece: Piece| {
        if piece.low < 0.0 {
            piece.low = 0.0;
            piece.interval.low = Tree::Number(Default::default());
            piece.interval.low_closed = true;
        }
        piece
    };
    let right = pieces.into_iter().filter(|piece| piece.high >= 0.0).map(from_zero);
    right.flat_map(|piece| [mirror(&piece), piece]).collect()
}

fn is_variable(tree: &Tree) -> bool {
    match tree {
        Tree::Symbol(name) => name != "ℝ",
        // `f(x)` reads as a product.
        Tree::Product(parts) => parts.iter().all(|part| matches!(part, Tree::Symbol(_))),
        _ => false,
    }
}

fn ray(bound: &Tree, order: Order, fuel: &mut Fuel) -> Option<Vec<Piece>> {
    let below = |closed| Interval { high_closed: closed, ..open(minus_infinity(), bound.clone()) };
    let above = |closed| Interval { low_closed: closed, ..open(bound.clone(), Tree::Infinity) };
    let intervals = match order {
        Order::Less => vec![below(false)],
        Order::AtMost => vec![below(true)],
        Order::Greater => vec![above(false)],
        Order::AtLeast => vec![above(true)],
        Order::Unequal => vec![below(false), above(false)],
        Order::Equal => vec![at(bound)],
        Order::In | Order::Near | Order::Other => return None,
    };
    intervals.into_iter().map(|interval| piece(interval, fuel)).collect()
}

/// Joins pieces that overlap, or touch at a point that one of them has.
fn merged(mut pieces: Vec<Piece>) -> Vec<Piece> {
    pieces.sort_by(|a, b| a.low.total_cmp(&b.low).then(b.interval.low_closed.cmp(&a.interval.low_closed)));
    let mut out: Vec<Piece> = Vec::new();
    for next in pieces {
        match out.last_mut() {
            Some(last) if next.low < last.high || (next.low == last.high && touches(last, &next)) => {
                if next.high > last.high || (next.high == last.high && next.interval.high_closed) {
                    last.high = next.high;
                    last.interval.high = next.interval.high;
                    last.interval.high_closed = next.interval.high_closed;
                }
            }
            _ => out.push(next),
        }
    }
    out
}

fn touches(last: &Piece, next: &Piece) -> bool {
    last.interval.high_closed || next.interval.low_closed
}

/// What is in no piece of the right.
fn without(left: Vec<Piece>, right: &[Piece]) -> Vec<Piece> {
    right.iter().fold(left, |left, hole| left.iter().flat_map(|piece| cut(piece, hole)).collect())
}

fn cut(piece: &Piece, hole: &Piece) -> Vec<Piece> {
    if hole.low > piece.high || hole.high < piece.low {
        return vec![piece.clone()];
    }
    let (mut below, mut above) = (piece.clone(), piece.clone());
    below.high = hole.low;
    below.interval.high = hole.interval.low.clone();
    below.interval.high_closed = !hole.interval.low_closed;
    above.low = hole.high;
    above.interval.low = hole.interval.high.clone();
    above.interval.low_closed = !hole.interval.high_closed;
    let exists =
        |p: &Piece| p.low < p.high || (p.low == p.high && p.interval.low_closed && p.interval.high_closed);
    [below, above].into_iter().filter(exists).collect()
}
