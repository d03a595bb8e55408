//! Enough of PromQL to tell which metrics and labels an expression names, and to have comparisons answer instead of filter.

use std::collections::BTreeSet;

/// What an expression names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) metrics: BTreeSet<String>,
    pub(crate) labels: BTreeSet<String>,
}

const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const WORDS: [&str; 11] =
    ["sum", "min", "max", "avg", "count", "and", "or", "unless", "bool", "offset", "atan2"];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// Opens, closes, operators; comparisons are whole.
    Sign(&'static str),
    /// Numbers, durations, ranges and strings.
    Value,
}

const SIGNS: [&str; 19] =
    ["==", "!=", ">=", "<=", "=~", "!~", ">", "<", "=", "(", ")", "{", "}", ",", "+", "-", "*", "/", "^"];
const COMPARISONS: [&str; 6] = ["==", "!=", ">=", "<=", ">", "<"];

/// Tokens with the place where each ends.
fn tokens(expression: &str) -> Vec<(Token, usize)> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(c) = expression[at..].chars().next() {
        let rest = &expression[at..];
        let run = |of: fn(char) -> bool| rest.find(|c: char| !of(c)).unwrap_or(rest.len());
        let token = if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        } else if c.is_ascii_alphabetic() || c == '_' || c == ':' {
            let n = run(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
            at += n;
            Token::Word(rest[..n].to_owned())
        } else if c.is_ascii_digit() {
            at += run(|c| c.is_ascii_alphanumeric() || c == '.');
            Token::Value
        } else if c == '[' {
            at += 1 + rest.find(']').expect("the range ends");
            Token::Value
        } else if c == '"' {
            at += 2 + rest[1..].find('"').expect("the string ends");
            Token::Value
        } else {
            let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
            let sign = sign.unwrap_or_else(|| panic!("`{c}` in {expression}"));
            at += sign.len();
            Token::Sign(sign)
        };
        out.push((token, at));
    }
    out
}

/// The metrics and labels of an expression.
pub(crate) fn names(expression: &str) -> Names {
    let tokens: Vec<Token> = tokens(expression).into_iter().map(|(token, _)| token).collect();
    let mut names = Names::default();
    let (mut matchers, mut grouping) = (false, false);
    for (i, token) in tokens.iter().enumerate() {
        let next = tokens.get(i + 1);
        match token {
            Token::Sign("{") => matchers = true,
            Token::Sign("}") => matchers = false,
            Token::Sign(")") => grouping = false,
            Token::Word(word) if matchers || (grouping && !GROUPINGS.contains(&&**word)) => {
                names.labels.insert(word.clone());
            }
            Token::Word(word) if GROUPINGS.contains(&&**word) => grouping = next == Some(&Token::Sign("(")),
            Token::Word(word) if WORDS.contains(&&**word) || next == Some(&Token::Sign("(")) => {}
            Token::Word(word) => {
                names.metrics.insert(word.clone());
            }
            Token::Sign(_) | Token::Value => {}
        }
    }
    names
}

/// The expression with comparisons that give 0 or 1 for every series, and not those alone for which they hold.
pub(crate) fn answering(expression: &str) -> String {
    let (mut out, mut from, mut matchers) = (String::new(), 0, false);
    for (token, end) in tokens(expression) {
        out.push_str(&expression[from..end]);
        from = end;
        match token {
            Token::Sign("{") => matchers = true,
            Token::Sign("}") => matchers = false,
            Token::Sign(sign) if !matchers && COMPARISONS.contains(&sign) => out.push_str(" bool"),
            _ => {}
        }
    }
    out
}

#[test]
fn names_are_told_from_functions_keywords_and_values() {
    let of = |expression: &str| {
        let Names { metrics, labels } = names(expression);
        (Vec::from_iter(metrics).join(" "), Vec::from_iter(labels).join(" "))
    };
    let expect = |metrics: &str, labels: &str| (metrics.to_owned(), labels.to_owned());
    assert_eq!(of("up"), expect("up", ""));
    assert_eq!(
        of(
            "histogram_quantile(0.95, sum by (le, job) (rate(a_bucket{role=~\"b|c\", d!=\"e\"}[$__rate_interval])))"
        ),
        expect("a_bucket", "d job le role")
    );
    assert_eq!(
        of("max(a{x=\"1\"}) - on () group_right () b and on (instance) c > 0 or vector(0)"),
        expect("a b c", "instance x")
    );
    assert_eq!(of("time() - max without (y) (a) >= 1e3 unless b offset 5m"), expect("a b", "y"));
}

#[test]
fn comparisons_answer_and_matchers_stay() {
    assert_eq!(
        answering("a{b!=\"c\", d=~\"e\"} > 0.5 and (count(f) or vector(0)) == 0"),
        "a{b!=\"c\", d=~\"e\"} > bool 0.5 and (count(f) or vector(0)) == bool 0"
    );
}
