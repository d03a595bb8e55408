//! Parses tokens to a tree: lists, relations and sets. `scalar` parses what stands inside them.

use super::token::{Lexeme, Token};
use super::tree::{Function, Interval, Order, Tree};

/// Deeper answers are not read. This bounds every recursion over trees.
pub(super) const DEEPEST: usize = 60;
/// Longer lists are not read.
const MOST_ITEMS: usize = 100;
/// Answers with more `±` are not read.
const MOST_ALTERNATIVES: usize = 3;

/// Reads all of an answer; `None` where it makes no sense.
pub(super) fn parse(tokens: Vec<Lexeme>) -> Option<Tree> {
    let mut parser = Parser { tokens, at: 0, depth: 0, bar_ends: false };
    let (mut items, any_or) = parser.groups()?;
    if parser.at < parser.tokens.len() || items.is_empty() {
        return None;
    }
    let ranges = items.iter().all(is_inequality);
    items = items.into_iter().map(alternatives).collect::<Option<Vec<_>>>()?.concat();
    if any_or && ranges && items.len() > 1 {
        return Some(Tree::Union(items));
    }
    Some(Tree::one_or(items, Tree::List))
}

/// A place in the tokens.
#[derive(Debug)]
pub(super) struct Parser {
    pub(super) tokens: Vec<Lexeme>,
    pub(super) at: usize,
    depth: usize,
    /// Whether a bar ends what is read, rather than beginning an absolute value.
    pub(super) bar_ends: bool,
}

impl Parser {
    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|lexeme| &lexeme.token)
    }

    pub(super) fn sign(&self) -> Option<char> {
        match self.peek() {
            Some(Token::Sign(sign)) => Some(*sign),
            _ => None,
        }
    }

    /// Steps over a sign, if it is next.
    pub(super) fn takes(&mut self, sign: char) -> bool {
        let found = self.sign() == Some(sign);
        self.at += usize::from(found);
        found
    }

    /// Reads one level deeper.
    pub(super) fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth >= DEEPEST {
            return None;
        }
        self.depth += 1;
        let found = read(self);
        self.depth -= 1;
        found
    }

    /// Reads inside brackets, where bars are free again.
    pub(super) fn enclosed<T>(
        &mut self,
        bar_ends: bool,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<T> {
        let outside = std::mem::replace(&mut self.bar_ends, bar_ends);
        let found = self.deeper(read);
        self.bar_ends = outside;
        found
    }

    /// Items, of which those between semicolons belong together: `p = 5, q = 2; p = 7, q = 2`.
    fn groups(&mut self) -> Option<(Vec<Tree>, bool)> {
        let (mut items, mut any_or) = self.items()?;
        if self.peek().is_none() {
            return Some((items, any_or));
        }
        let mut groups = Vec::new();
        loop {
            groups.push(Tree::one_or(items, Tree::Tuple));
            if !self.takes(';') || self.peek().is_none() {
                return Some((groups, any_or));
            }
            if groups.len() >= MOST_ITEMS {
                return None;
            }
            let (next, or) = self.items()?;
            any_or |= or;
            items = next;
        }
    }

    /// Items between brackets, where a semicolon is a comma.
    fn groups_inside(&mut self) -> Option<(Vec<Tree>, bool)> {
        let (mut items, mut any_or) = self.items()?;
        while self.takes(';') {
            let (more, or) = self.items()?;
            items.extend(more);
            any_or |= or;
        }
        Some((items, any_or))
    }

    /// Items between separators, and whether any separator was *or*.
    pub(super) fn items(&mut self) -> Option<(Vec<Tree>, bool)> {
        let (mut items, mut any_or) = (Vec::new(), false);
        loop {
            items.push(self.item()?);
            let start = self.at;
            while let Some(',' | '∧' | '∨' | '\n') = self.sign() {
                any_or |= self.sign() == Some('∨');
                self.at += 1;
            }
            let ends =
                matches!(self.sign(), Some(')' | ']' | '}' | '»' | '⟩' | ';')) || self.peek().is_none();
            if self.at == start || ends {
                return Some((items, any_or));
            }
            if items.len() >= MOST_ITEMS {
                return None;
            }
        }
    }

    /// A relation, or one side alone.
    fn item(&mut self) -> Option<Tree> {
        // `= 5` and `≈ 5` say no more than 5.
        let _ = self.takes('=') || self.takes('≈');
        let mut sides = vec![self.side()?];
        let mut orders = Vec::new();
        while let Some(order) = self.sign().and_then(order) {
            self.at += 1;
            orders.push(order);
            sides.push(self.side()?);
        }
        exact_part(&mut sides, &mut orders);
        match orders.as_slice() {
            [] | [Order::In] => sides.pop(),
            _ => Some(Tree::Relation { sides, orders }),
        }
    }

    /// Sets, or a scalar.
    fn side(&mut self) -> Option<Tree> {
        let mut union = vec![self.sum()?];
        for _ in 0..MOST_ITEMS {
            if self.takes('∪') {
                union.push(self.sum()?);
            } else if self.takes('∖') {
                let left = Tree::one_or(std::mem::take(&mut union), Tree::Union);
                union.push(Tree::Difference(Box::new(left), Box::new(self.sum()?)));
            } else {
                return Some(Tree::one_or(union, Tree::Union));
            }
        }
        None
    }

    /// What an opening bracket begins; the bracket is passed.
    pub(super) fn bracket(&mut self, open: char) -> Option<Tree> {
        let (mut items, _) = self.enclosed(false, Self::groups_inside)?;
        if open == '{'
            && items.len() == 1
            && let Some(Token::Command(name @ ("choose" | "over"))) = self.peek().cloned()
        {
            self.at += 1;
            return self.over(items.pop()?, name);
        }
        let close = self.sign()?;
        self.at += 1;
        match (open, close, items.len()) {
            ('(', ')', 1) | ('[', ']', 1) | ('{', '}', 1) => items.pop(),
            ('{', '}', _) => Some(Tree::List(items)),
            ('(', ')', _) | ('⟨', '⟩', _) => Some(Tree::Tuple(items)),
            ('(' | '[', ')' | ']', 2) => {
                let (high, low) = (items.pop()?, items.pop()?);
                let (low_closed, high_closed) = (open == '[', close == ']');
                Some(Tree::Interval(Box::new(Interval { low, high, low_closed, high_closed })))
            }
            ('[', ']', _) => Some(Tree::Tuple(items)),
            _ => None,
        }
    }

    /// The rest of `{n \choose k}` and `{a \over b}`.
    fn over(&mut self, left: Tree, name: &str) -> Option<Tree> {
        let right = self.enclosed(false, Self::sum)?;
        let both = match name {
            "choose" => Tree::Call(Function::Binomial, vec![left, right]),
            _ => Tree::Quotient(Box::new(left), Box::new(right)),
        };
        self.takes('}').then_some(both)
    }

    /// A set; its opening brace is passed. `{x | x > 2}` gives its condition.
    pub(super) fn set(&mut self) -> Option<Tree> {
        if self.takes('»') {
            return Some(Tree::Set(Vec::new()));
        }
        let (items, _) = self.enclosed(true, Self::groups_inside)?;
        if self.takes('|') || self.takes(':') {
            let (mut conditions, any_or) = self.enclosed(false, Self::items)?;
            let found = match conditions.len() {
                1 => conditions.pop(),
                _ if any_or => Some(Tree::Union(conditions)),
                _ => None,
            };
            return found.filter(|_| self.takes('»'));
        }
        let items = items.into_iter().map(alternatives).collect::<Option<Vec<_>>>()?.concat();
        self.takes('»').then_some(Tree::Set(items))
    }
}

fn order(sign: char) -> Option<Order> {
    Some(match sign {
        '=' => Order::Equal,
        '≠' => Order::Unequal,
        '<' => Order::Less,
        '≤' => Order::AtMost,
        '>' => Order::Greater,
        '≥' => Order::AtLeast,
        '∈' => Order::In,
        '≈' => Order::Near,
        '≡' => Order::Other,
        _ => return None,
    })
}

/// Leaves out what follows `≈` after an exact value; after a mere name, `≈` says what it is.
fn exact_part(sides: &mut Vec<Tree>, orders: &mut Vec<Order>) {
    if let Some(near) = orders.iter().position(|order| *order == Order::Near) {
        if near > 0 || !sides.first().is_some_and(Tree::has_symbol) {
            sides.truncate(near + 1);
            orders.truncate(near);
        }
        for order in orders.iter_mut().filter(|order| **order == Order::Near) {
            *order = Order::Equal;
        }
    }
}

fn is_inequality(tree: &Tree) -> bool {
    matches!(tree, Tree::Relation { orders, .. } if orders.iter().all(|order| *order != Order::Equal))
}

/// Each value of a tree with `±` in it. All signs of `±` are free, unless there is a `∓`, which ties them together.
fn alternatives(tree: Tree) -> Option<Vec<Tree>> {
    let count = tree.alternatives();
    match count {
        0 => return Some(vec![tree]),
        1..=MOST_ALTERNATIVES => {}
        _ => return None,
    }
    let tied = has_lower(&tree);
    let choices = if tied { vec![0, usize::MAX] } else { (0..1 << count).collect() };
    Some(choices.into_iter().map(|choice| chosen(&tree, &mut (choice, 0))).collect())
}

fn has_lower(tree: &Tree) -> bool {
    let mut found = matches!(tree, Tree::Either { upper: false, .. });
    tree.with_parts(&mut |part| {
        found = found || has_lower(part);
        Tree::Pi
    });
    found
}

/// The tree with a sign for each `±`: the next bit of the choice.
fn chosen(tree: &Tree, state: &mut (usize, u32)) -> Tree {
    if let Tree::Either { upper, value } = tree {
        let minus = (state.0 >> state.1) & 1 == 1;
        state.1 += 1;
        let value = chosen(value, state);
        return if minus == *upper { value.negative() } else { value };
    }
    tree.with_parts(&mut |part| chosen(part, state))
}
