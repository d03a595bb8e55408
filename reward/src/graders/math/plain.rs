//! Finds an answer in plain text.

use super::words;

/// Longer texts are no answer by themselves.
const LONGEST: usize = 200;
/// Texts with more words are sentences, in which the answer is looked for.
const MOST_WORDS: usize = 2;
/// Words that begin a reason, or a remark, after an answer.
const BREAKS: [&str; 12] = [
    " because ",
    " since ",
    " as ",
    " which ",
    " when ",
    " where ",
    " for ",
    " so ",
    " if ",
    " with ",
    " in ",
    " by ",
];

/// The text before what some prompts teach models to end with, and before a turn that the model made up.
pub(super) fn without_coda(text: &str) -> &str {
    let turns = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"];
    let end = turns.iter().filter_map(|turn| text.find(turn)).min().unwrap_or(text.len());
    let text = text[..end].trim_end().trim_end_matches('.');
    text.strip_suffix("I hope it is correct").unwrap_or(text).trim_end()
}

/// The text up to the end of its first sentence.
pub(super) fn sentence(text: &str) -> &str {
    let stops = [". ", ".\n", "\n", "! ", "? "];
    let end = stops.iter().filter_map(|stop| text.find(stop)).min().unwrap_or(text.len());
    text[..end].trim().trim_matches('*').trim()
}

/// The sentence, and what stands before a reason in it.
pub(super) fn beginnings(sentence: &str) -> Vec<String> {
    let mut found = vec![sentence.to_owned()];
    let ends = BREAKS.iter().filter_map(|word| sentence.find(word));
    found.extend(ends.min().map(|end| sentence[..end].to_owned()));
    found
}

/// The text without remarks in brackets, such as `(approximately)`, and the exclamation mark at its end.
pub(super) fn without_remarks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('(') {
        let (before, bracket) = rest.split_at(open);
        out.push_str(before);
        let inside = bracket[1..].split_once(')').filter(|(inside, _)| is_remark(inside));
        rest = inside.map_or_else(
            || {
                out.push('(');
                &bracket[1..]
            },
            |(_, after)| after,
        );
    }
    out.push_str(rest);
    // `5!` is a factorial, but a sentence that ends so is not.
    match out.trim_end().strip_suffix('!').filter(|text| text.contains(' ')) {
        Some(exclaimed) => exclaimed.to_owned(),
        None => out,
    }
}

fn is_remark(inside: &str) -> bool {
    if inside.len() > LONGEST {
        return false;
    }
    let starts = ["approx", "about", "since", "because", "rounded", "as ", "i.e.", "which"];
    let lower = inside.to_ascii_lowercase();
    starts.iter().any(|start| lower.starts_with(start)) && !inside.contains(['(', '$', '\\'])
}

/// The number, and what it counts, at the start of a sentence that goes on in words without another number.
pub(super) fn leading_number(sentence: &str) -> Option<String> {
    let (number, rest) = sentence.split_once(' ')?;
    let mut words = rest.split_whitespace();
    let word = words.next()?.trim_end_matches(',');
    let digits = number.bytes().all(|b| b.is_ascii_digit() || b == b',' || b == b'.');
    let counted = word.len() > 1 && word.bytes().all(|b| b.is_ascii_alphabetic()) && words::is_counted(word);
    let other = rest.contains(|c: char| c.is_ascii_digit() || "=<>+*/^".contains(c));
    let joins = ["and", "or"].contains(&word) || words::scale(word).is_some();
    (digits && counted && !joins && !other && words.nth(1).is_some()).then(|| format!("{number} {word}"))
}

/// The text, where it is short enough to be an answer by itself.
pub(super) fn whole(text: &str) -> Option<String> {
    let text = without_label(text.trim().trim_matches('*').trim());
    let joined = |word: &&str| !["and", "or"].contains(word);
    let mut words = text.split(|c: char| !c.is_alphabetic()).filter(|word| word.len() >= 2).filter(joined);
    let short = text.len() <= LONGEST && !text.is_empty() && words.nth(MOST_WORDS).is_none();
    (short && !is_sentence(text)).then(|| text.to_owned())
}

/// Whether a short text is a sentence all the same: `It's 7.`, or `2,50 $ in all`.
fn is_sentence(text: &str) -> bool {
    let contraction = ["'s ", "'re ", "\u{2019}s "].iter().any(|end| text.contains(end));
    let price = text.split_once(['$', '€', '£']).is_some_and(|(before, after)| {
        before.trim_end().ends_with(|c: char| c.is_ascii_digit()) && after.contains(char::is_alphabetic)
    });
    contraction || (price && text.matches(['$', '€', '£']).count() == 1)
}

/// The text after a label such as `Total:`.
fn without_label(text: &str) -> &str {
    let is_label = |label: &str| label.len() >= 2 && label.chars().all(|c| c.is_alphabetic() || c == ' ');
    text.split_once(':').filter(|(label, _)| is_label(label)).map_or(text, |(_, rest)| rest.trim())
}

/// The last number, or arithmetic of numbers, unless it is part of something else such as `x + 1` or `5th`.
pub(super) fn last_number(text: &str) -> Option<String> {
    let end = text.rfind(|c: char| c.is_ascii_digit())?;
    let start = run_start(text, end);
    let run = text[start..=end].trim_start();
    let start = end + 1 - run.len();
    let mut rest = &text[end + 1..];
    let mut found = run.to_owned();
    for close in [")", "!", "%", " %"] {
        // A bracket that the run opened, a factorial or a percentage belongs to it.
        let opened = close != ")" || found.matches('(').count() > found.matches(')').count();
        if let Some(after) = rest.strip_prefix(close).filter(|_| opened) {
            found.push_str(close);
            rest = after;
        }
    }
    let next = rest.split_whitespace().next().unwrap_or_default();
    let word = next.trim_matches(|c: char| c.is_ascii_punctuation());
    if rest.starts_with(' ') && (words::scale(word).is_some() || ["percent", "pct"].contains(&word)) {
        found.push(' ');
        found.push_str(word);
    }
    (stands_alone(&text[..start]) && ends_well(rest)).then_some(found)
}

/// Where the digits and operators start that reach up to `end`, with *or* and *and* between numbers.
fn run_start(text: &str, end: usize) -> usize {
    let mut start = end;
    loop {
        let before = &text[..start];
        let Some(c) = before.chars().next_back() else { return 0 };
        let digit_after = text[start..].starts_with(|c: char| c.is_ascii_digit());
        let digit_before = before[..before.len() - c.len_utf8()].ends_with(|c: char| c.is_ascii_digit());
        let joined = match c {
            '0'..='9' | ' ' | '+' | '-' | '*' | '/' | '^' | '(' | '×' | '÷' | '\u{2212}' => true,
            '.' => digit_after,
            ',' => digit_after && digit_before,
            ')' | '!' | '%' => digit_before,
            'r' | 'd' => {
                let word = ["or", "and"].into_iter().find(|word| before.ends_with(word));
                let outside = word.map(|word| before[..before.len() - word.len()].trim_end());
                match outside {
                    Some(outside) if outside.ends_with(|c: char| c.is_ascii_digit()) => {
                        start = outside.len();
                        continue;
                    }
                    _ => false,
                }
            }
            _ => false,
        };
        if !joined {
            return trimmed(text, start, end);
        }
        start -= c.len_utf8();
    }
}

/// Without operators and list marks at the start that have nothing before them.
fn trimmed(text: &str, start: usize, end: usize) -> usize {
    let run = &text[start..end];
    let outside = text[..start].trim_end().chars().next_back();
    let bullet = outside.is_none_or(|c| c == '\n');
    let skipped = run.find(|c: char| c.is_ascii_digit() || c == '(' || (c == '-' && !bullet) || c == '.');
    start + skipped.unwrap_or(run.len())
}

/// Nothing before a number makes it part of a larger expression.
fn stands_alone(before: &str) -> bool {
    let trimmed = before.trim_end_matches([' ', '$']);
    let operator = trimmed.ends_with(['+', '/', '^', '_', '<', '>', '≤', '≥', '{', '\\']);
    let unstarred = before.trim_end_matches('*');
    let raised = unstarred.len() < before.len() && unstarred.ends_with(|c: char| c.is_alphanumeric());
    let attached = raised || before.ends_with(|c: char| c.is_alphabetic() || c == '\\' || c == '.');
    let argument =
        trimmed.strip_suffix(['(', '[']).is_some_and(|t| t.ends_with(|c: char| c.is_alphanumeric()));
    let denied =
        trimmed.split_whitespace().next_back().is_some_and(|word| word == "not" || word.ends_with("n't"));
    !operator && !attached && !argument && !denied && !ends_list(trimmed) && !is_equation(before)
}

/// Whether two numbers with commas come before, as in `40, 41, 42`, where the last one is not the answer.
fn ends_list(before: &str) -> bool {
    let item = |text: &str| {
        let text = text.trim_end().strip_suffix(',')?.trim_end();
        let rest = text.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        (rest.len() < text.len()).then_some(rest.len())
    };
    item(before).is_some_and(|end| item(&before[..end]).is_some())
}

/// Whether text that ends in `… =` is an equation with a coefficient, such as `2x + y =`, whose right side is no value.
fn is_equation(before: &str) -> bool {
    let Some(side) = before.trim_end_matches([' ', '$']).strip_suffix('=') else { return false };
    let side = side.rsplit(['=', '\n', '$', ':']).next().unwrap_or_default();
    let chars: Vec<char> = side.chars().chain([' ']).collect();
    chars.windows(3).any(|w| w[0].is_ascii_digit() && w[1].is_alphabetic() && !w[2].is_alphabetic())
}

/// What follows a number does not change it.
fn ends_well(rest: &str) -> bool {
    let letters: String = rest.chars().take_while(|c| c.is_alphabetic()).collect();
    let attached = letters.is_empty() || words::unit(&letters).is_some() || rest.starts_with("°");
    let next = rest.trim_start();
    attached && !next.starts_with(['+', '*', '/', '^', '×', '\\', '=', '<', '>'])
}
