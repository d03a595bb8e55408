//! Finds the formulas of a text: `$…$`, `$$…$$`, `\(…\)` and `\[…\]`.

/// Marks around formulas.
const MARKS: [(&str, &str); 4] = [("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$")];
/// Longer texts are no formulas.
const LONGEST: usize = 2_000;

/// A formula, with the places where its marks begin and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Formula<'a> {
    pub(super) start: usize,
    pub(super) inner: &'a str,
    pub(super) end: usize,
}

/// All formulas in order.
pub(super) fn formulas(text: &str) -> Vec<Formula<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(offset) = text[at..].find(['$', '\\']) {
        let start = at + offset;
        match formula(text, start) {
            Some(formula) => {
                at = formula.end;
                found.push(formula);
            }
            // An escaped sign is stepped over with its backslash.
            None => at = text.ceil_char_boundary(start + if text[start..].starts_with('\\') { 2 } else { 1 }),
        }
        if at >= text.len() {
            break;
        }
    }
    found
}

fn formula(text: &str, start: usize) -> Option<Formula<'_>> {
    let (open, close) = MARKS.into_iter().find(|(open, _)| text[start..].starts_with(open))?;
    let inside = start + open.len();
    let within = &text[inside..text.floor_char_boundary(inside + LONGEST)];
    let length = closing(within, close)?;
    let inner = &within[..length];
    (!inner.trim().is_empty()).then_some(Formula { start, inner, end: inside + length + close.len() })
}

/// Where the formula ends. A `$` that stands for money does not end one.
fn closing(within: &str, close: &str) -> Option<usize> {
    if close != "$" {
        return within.find(close);
    }
    let places = within.match_indices('$').map(|(index, _)| index);
    let index = places.into_iter().find(|index| !within[..*index].ends_with('\\'))?;
    let inner = &within[..index];
    let money = within[index + 1..].starts_with(|c: char| c.is_ascii_digit());
    let loose = inner.ends_with(' ') && !inner.starts_with(' ');
    (!money && !loose && !inner.contains("\n\n")).then_some(index)
}

/// The text of the formulas that follow the one at `first` with no more than *and*, *or* or a comma between them.
pub(super) fn run<'a>(text: &'a str, formulas: &[Formula<'a>], first: usize) -> Vec<&'a str> {
    let mut found: Vec<&str> = formulas.get(first).map(|formula| formula.inner).into_iter().collect();
    for pair in formulas.get(first..).unwrap_or_default().windows(2) {
        if !joins(&text[pair[0].end..pair[1].start]) {
            break;
        }
        found.push(pair[1].inner);
    }
    found
}

/// The number of formulas just before `last` that belong with it.
pub(super) fn first_of_run(text: &str, formulas: &[Formula], last: usize) -> usize {
    let mut first = last;
    while first > 0 && joins(&text[formulas[first - 1].end..formulas[first].start]) {
        first -= 1;
    }
    first
}

fn joins(between: &str) -> bool {
    let words = between.replace([',', ';'], " ");
    let words: Vec<&str> = words.split_whitespace().collect();
    matches!(words.as_slice(), [] | ["and" | "or"]) && !between.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_and_money() {
        for (text, expected) in [
            (r"so $x = 5$ and \(y = 6\)", vec!["x = 5", "y = 6"]),
            ("$$\n7\n$$ or \\[8\\]", vec!["\n7\n", "8"]),
            ("She pays $5 first and $6 later", vec![]),
            (r"it costs $\$5$", vec![r"\$5"]),
            ("$ x $", vec![" x "]),
            (r"\$5 and $6$", vec!["6"]),
            ("$open", vec![]),
        ] {
            let found: Vec<&str> = formulas(text).iter().map(|formula| formula.inner).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn formulas_that_belong_together() {
        let text = r"$1$, so $2$, $3$ and $4$";
        let found = formulas(text);
        assert_eq!(first_of_run(text, &found, 3), 1);
        assert_eq!(run(text, &found, 1), ["2", "3", "4"]);
    }
}
