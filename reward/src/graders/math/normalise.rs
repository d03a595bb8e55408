//! Rewrites an answer in one spelling of LaTeX.

use super::spelling;

/// Longer answers, in bytes, are not read.
pub(super) const LONGEST: usize = 3_000;

/// The answer in one spelling; `None` where it is too long.
pub(super) fn normalised(text: &str) -> Option<String> {
    if text.len() > LONGEST {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = match c {
            '\\' => command(&rest[1..], &mut out),
            '*' if rest.starts_with("**") => stars(&rest[2..], &mut out),
            '{' if braced_comma(rest).is_some() => {
                // `14 {, }916` is one number too.
                out.truncate(out.trim_end().len());
                out.push(',');
                braced_comma(rest).unwrap_or_default()
            }
            '~' | '\n' | '\t' | '\r' => {
                out.push(' ');
                &rest[1..]
            }
            _ => {
                match spelling::character(c) {
                    Some(other) => out.push_str(other),
                    None if c.is_whitespace() => out.push(' '),
                    None => out.push(c),
                }
                &rest[c.len_utf8()..]
            }
        };
    }
    Some(out)
}

/// What follows `{,}`, the comma of a number, whose braces may hold spaces.
fn braced_comma(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('{')?.trim_start().strip_prefix(',')?.trim_start();
    rest.strip_prefix('}')
}

/// Writes the command that follows a backslash, and gives what follows it.
fn command<'a>(after: &'a str, out: &mut String) -> &'a str {
    let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
    if let Some(again) = after.strip_prefix('\\').filter(|again| is_escaped_twice(again)) {
        return command(again, out);
    }
    if letters == 0 {
        return sign(after, out);
    }
    let (name, rest) = after.split_at(letters);
    if spelling::is_dropped_with_group(name) {
        let group = rest.trim_start().strip_prefix('{').and_then(|rest| rest.split_once('}'));
        return group.map_or(rest, |(_, rest)| rest);
    }
    match spelling::command(name) {
        Some(other) => {
            out.push_str(other);
            if let Some((modulus, rest)) = braced_modulus(name, rest) {
                out.push_str(modulus);
                return rest;
            }
            // Else the name would run into the letter after it.
            if other.starts_with('\\') {
                out.push(' ');
            }
        }
        None => {
            out.push('\\');
            out.push_str(name);
            out.push(' ');
        }
    }
    let invisible = ["left", "right"].contains(&name);
    rest.strip_prefix('.').filter(|_| invisible).unwrap_or(rest)
}

/// The modulus of `\pmod{7}`, which is also written `\pmod 7`, and what follows it.
fn braced_modulus<'a>(name: &str, rest: &'a str) -> Option<(&'a str, &'a str)> {
    let group = rest.trim_start().strip_prefix('{').filter(|_| ["pmod", "bmod", "mod"].contains(&name))?;
    group.split_once('}').filter(|(modulus, _)| modulus.chars().all(char::is_alphanumeric))
}

/// Whether a command follows whose backslash was doubled on its way here; elsewhere `\\\\` begins a row.
fn is_escaped_twice(after: &str) -> bool {
    let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
    let name = &after[..letters];
    let known = ["frac", "sqrt", "binom", "begin", "end", "overline", "mathbb"].contains(&name);
    letters >= 2 && (known || spelling::command(name).is_some())
}

/// Writes what a backslash before a sign means.
fn sign<'a>(after: &'a str, out: &mut String) -> &'a str {
    let Some(c) = after.chars().next() else { return after };
    match c {
        '{' => out.push_str("\\{"),
        '}' => out.push_str("\\}"),
        '\\' => {
            out.push_str("\\\\");
            return without_row_gap(&after[1..]);
        }
        '$' | '%' | '|' => out.push(c),
        // It pulls together what stands around it.
        '!' => return after[1..].trim_start(),
        _ => out.push(' '),
    }
    &after[c.len_utf8()..]
}

/// What follows the space that a new row may ask for, as in `\\[2pt]`.
fn without_row_gap(after: &str) -> &str {
    let gap = after.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let length = |text: &str| ["pt", "em", "ex", "mm"].iter().any(|unit| text.ends_with(unit));
    gap.filter(|(inside, _)| length(inside)).map_or(after, |(_, rest)| rest)
}

/// Writes `**` as a power between two operands, and drops it where it makes text bold.
fn stars<'a>(after: &'a str, out: &mut String) -> &'a str {
    let left = out.ends_with(|c: char| c.is_alphanumeric() || c == ')');
    let right = after.starts_with(|c: char| c.is_alphanumeric() || c == '(' || c == '-');
    if left && right {
        out.push('^');
    }
    after
}

/// The text without the spaces and braces that say nothing, to compare answers that cannot be read.
pub(super) fn squashed(text: &str) -> String {
    let joined = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let mut out = String::with_capacity(text.len());
    let words = text.split(|c: char| c.is_whitespace() || c == '$').filter(|word| !word.is_empty());
    for word in words {
        if joined(out.chars().next_back()) && joined(word.chars().next()) {
            out.push(' ');
        }
        out.push_str(word);
    }
    out.trim_end_matches(['.', ',']).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling() {
        for (text, expected) in [
            (r"\dfrac{1}{2}", r"\frac {1}{2}"),
            (r"\left( 3, 4 \right)", "( 3, 4 )"),
            (r"\left. x \right|", " x |"),
            (r"1,\!000 \text{ cm}", r"1,000 \text { cm}"),
            (r"1{,}000\$", "1,000$"),
            ("2\u{2212}1 \u{d7} 3\u{b2}", "2-1 * 3^{2}"),
            (r"\$50\%\hspace{2pt}!", "$50%!"),
            ("2**3 **bold**", "2^3 bold"),
            (r"x\geqslant\sqrt3", r"x≥\sqrt 3"),
        ] {
            assert_eq!(normalised(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(normalised(&" ".repeat(LONGEST + 1)), None);
    }

    #[test]
    fn spaces_between_words_and_numbers_stay() {
        assert_eq!(squashed(" 1  1/2 "), "1 1/2");
        assert_eq!(squashed("( 3 , 4 )."), "(3,4)");
        assert_eq!(squashed("$June  20$"), "june 20");
    }
}
