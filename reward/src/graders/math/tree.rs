//! What an answer says, as a tree.

use num_rational::BigRational;

/// An answer, or a part of one. Trees are at most `parse::DEEPEST` levels deep, so recursion over them is safe.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    /// An exact number: an integer, or a mixed number.
    Number(BigRational),
    /// A number that was written with a decimal point, and so may be rounded.
    Decimal(BigRational),
    /// Digits with a base, such as `2516_8`.
    Based {
        digits: String,
        base: u32,
    },
    /// `50%`.
    Percent(Box<Tree>),
    /// `30°`.
    Degrees(Box<Tree>),
    /// A number of a unit that is known; unknown units are dropped.
    Quantity(Box<Tree>, &'static str),
    Pi,
    /// Euler's number.
    E,
    /// The imaginary unit.
    I,
    Infinity,
    Symbol(String),
    Sum(Vec<Tree>),
    Product(Vec<Tree>),
    Quotient(Box<Tree>, Box<Tree>),
    Power(Box<Tree>, Box<Tree>),
    Negative(Box<Tree>),
    /// Plus or minus; `upper` is false in `∓`.
    Either {
        upper: bool,
        value: Box<Tree>,
    },
    Call(Function, Vec<Tree>),
    /// A function that is not known, such as `f(2)`.
    Apply(String, Vec<Tree>),
    /// In order: `(1, 2)`. With two parts it is also an open interval.
    Tuple(Vec<Tree>),
    /// `{1, 2}`.
    Set(Vec<Tree>),
    /// Without brackets: `1, 2` or `1 and 2`.
    List(Vec<Tree>),
    Interval(Box<Interval>),
    Union(Vec<Tree>),
    /// The left set without the right one.
    Difference(Box<Tree>, Box<Tree>),
    Matrix(Vec<Vec<Tree>>),
    /// `sides[0] orders[0] sides[1] …`.
    Relation {
        sides: Vec<Tree>,
        orders: Vec<Order>,
    },
    /// Words.
    Text(String),
}

/// The numbers between two ends.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Interval {
    pub(super) low: Tree,
    pub(super) high: Tree,
    pub(super) low_closed: bool,
    pub(super) high_closed: bool,
}

/// How two sides of a relation stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
    /// `x ∈ A`.
    In,
    /// About equal: what follows is rounded.
    Near,
    /// Congruence and the like, which are compared as they stand.
    Other,
}

impl Order {
    /// The relation with its sides exchanged; `None` where that has no sign of its own.
    pub(super) fn mirrored(self) -> Option<Self> {
        match self {
            Self::Less => Some(Self::Greater),
            Self::AtMost => Some(Self::AtLeast),
            Self::Greater => Some(Self::Less),
            Self::AtLeast => Some(Self::AtMost),
            Self::Equal | Self::Unequal => Some(self),
            Self::In | Self::Near | Self::Other => None,
        }
    }
}

/// The functions that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Function {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Arcsin,
    Arccos,
    Arctan,
    Sinh,
    Cosh,
    Tanh,
    Exp,
    Ln,
    /// Arguments: base, value.
    Log,
    Abs,
    Floor,
    Ceil,
    Factorial,
    /// Arguments: n, k.
    Binomial,
    Min,
    Max,
    Gcd,
    Lcm,
}

impl Function {
    /// The function that LaTeX and plain text call by this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sin" => Self::Sin,
            "cos" => Self::Cos,
            "tan" | "tg" => Self::Tan,
            "cot" | "ctg" => Self::Cot,
            "sec" => Self::Sec,
            "csc" | "cosec" => Self::Csc,
            "arcsin" | "asin" => Self::Arcsin,
            "arccos" | "acos" => Self::Arccos,
            "arctan" | "atan" => Self::Arctan,
            "sinh" => Self::Sinh,
            "cosh" => Self::Cosh,
            "tanh" => Self::Tanh,
            "exp" => Self::Exp,
            "ln" => Self::Ln,
            "log" | "lg" => Self::Log,
            "abs" => Self::Abs,
            "floor" => Self::Floor,
            "ceil" => Self::Ceil,
            "min" => Self::Min,
            "max" => Self::Max,
            "gcd" => Self::Gcd,
            "lcm" => Self::Lcm,
            _ => return None,
        })
    }

    /// What `f^{-1}` means.
    pub(super) fn inverse(self) -> Option<Self> {
        match self {
            Self::Sin => Some(Self::Arcsin),
            Self::Cos => Some(Self::Arccos),
            Self::Tan => Some(Self::Arctan),
            _ => None,
        }
    }

    /// Whether its argument is an angle, which may be given in degrees.
    pub(super) fn takes_angle(self) -> bool {
        matches!(self, Self::Sin | Self::Cos | Self::Tan | Self::Cot | Self::Sec | Self::Csc)
    }
}

impl Tree {
    pub(super) fn negative(self) -> Self {
        match self {
            Self::Number(n) => Self::Number(-n),
            Self::Decimal(n) => Self::Decimal(-n),
            other => Self::Negative(Box::new(other)),
        }
    }

    /// Of the parts, or the only part itself.
    pub(super) fn one_or(mut parts: Vec<Self>, many: fn(Vec<Self>) -> Self) -> Self {
        match parts.len() {
            1 => parts.remove(0),
            _ => many(parts),
        }
    }

    /// Applies `f` to the parts of a scalar.
    pub(super) fn with_parts(&self, f: &mut dyn FnMut(&Self) -> Self) -> Self {
        let mut boxed = |t: &Self| Box::new(f(t));
        match self {
            Self::Percent(t) => Self::Percent(boxed(t)),
            Self::Degrees(t) => Self::Degrees(boxed(t)),
            Self::Quantity(t, unit) => Self::Quantity(boxed(t), unit),
            Self::Negative(t) => Self::Negative(boxed(t)),
            Self::Either { upper, value } => Self::Either { upper: *upper, value: boxed(value) },
            Self::Quotient(a, b) => Self::Quotient(boxed(a), boxed(b)),
            Self::Power(a, b) => Self::Power(boxed(a), boxed(b)),
            Self::Sum(parts) => Self::Sum(parts.iter().map(f).collect()),
            Self::Product(parts) => Self::Product(parts.iter().map(f).collect()),
            Self::Call(function, parts) => Self::Call(*function, parts.iter().map(f).collect()),
            Self::Relation { sides, orders } => {
                Self::Relation { sides: sides.iter().map(f).collect(), orders: orders.clone() }
            }
            Self::Tuple(parts) => Self::Tuple(parts.iter().map(f).collect()),
            other => other.clone(),
        }
    }

    /// How many `±` and `∓` there are in a scalar, tuple or relation.
    pub(super) fn alternatives(&self) -> usize {
        let mut count = usize::from(matches!(self, Self::Either { .. }));
        self.with_parts(&mut |part| {
            count += part.alternatives();
            Self::Pi
        });
        count
    }

    /// Whether a symbol occurs in a scalar.
    pub(super) fn has_symbol(&self) -> bool {
        let mut found = matches!(self, Self::Symbol(_) | Self::Apply(..));
        self.with_parts(&mut |part| {
            found = found || part.has_symbol();
            Self::Pi
        });
        found
    }
}
