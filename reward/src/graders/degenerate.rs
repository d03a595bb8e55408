//! Text that says the same over and over, by the share of its n-grams that are distinct (1 − seq-rep-n of Welleck et al.,
//! arXiv 1908.04319).
//!
//! Long text is measured in windows of bytes, so a loop is found wherever it is and whatever the language; a short answer by
//! its words. Thresholds are far from ordinary text: prose, code, tables and sums have more than 0.7 of their long n-grams
//! distinct, recipes of the fictional world more than 0.4 of their word triples.

use std::collections::HashSet;
use std::hash::Hash;

/// Bytes of one n-gram: some four words.
const GRAM: usize = 24;
/// Texts are looked at in windows of so many bytes, each half over the last.
const WINDOW: usize = 1024;
/// Shorter texts hold too few n-grams of bytes to tell.
const SHORTEST: usize = 128;
/// Words of one n-gram of an answer.
const WORDS: usize = 3;
/// Answers with fewer n-grams of words than this are too short to tell.
const FEWEST: usize = 8;
/// A window or an answer is a loop where fewer of its n-grams are distinct.
const LEAST_DISTINCT: f64 = 0.25;

/// Whether some stretch of a completion, reasoning included, says the same over and over.
#[must_use]
pub fn loops(completion: &str) -> bool {
    let bytes = completion.trim().as_bytes();
    let starts = (0..bytes.len()).step_by(WINDOW / 2);
    let windows = starts.map(|start| &bytes[start..bytes.len().min(start + WINDOW)]);
    windows.filter(|window| window.len() >= SHORTEST).any(|window| few_distinct(window, GRAM))
}

/// Whether an answer, without its reasoning, is made of a few words again and again, however short it is. For answers
/// in words: a matrix of zeros repeats itself with good reason.
#[must_use]
pub fn repeats_words(answer: &str) -> bool {
    let answer = answer.to_lowercase();
    let words = answer.split(|c: char| !c.is_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.len() >= FEWEST + WORDS - 1 && few_distinct(&words, WORDS)
}

fn few_distinct<T: Eq + Hash>(items: &[T], gram: usize) -> bool {
    let distinct: HashSet<&[T]> = items.windows(gram).collect();
    (distinct.len() as f64) < LEAST_DISTINCT * (items.len() - gram + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROSE: &str = "First add the two sides of the garden, which gives nine metres. A fence on both long sides \
        then takes eighteen metres of wire, and the gate needs one more. Nineteen metres at four coins each cost \
        seventy-six coins, so with a hundred coins in the purse twenty-four are left for seeds.";

    #[test]
    fn loops_are_found_wherever_they_are() {
        assert!(loops(&"no ".repeat(60)));
        assert!(loops(&"a".repeat(200)));
        assert!(loops(&"\u{1f642}".repeat(60)));
        assert!(loops(&format!("{PROSE}{}", "Wait, let me check that again. ".repeat(60))));
        assert!(loops(&format!("{}{PROSE}{PROSE}", "Hmm. ".repeat(400))));
        assert!(loops(&format!("<think> plan </think> {}", "and so on ".repeat(30))));
    }

    #[test]
    fn prose_tables_sums_and_short_texts_do_not_loop() {
        let table: String = (1..40).map(|i| format!("| {i} | {} | {} |\n", i * i, i * i * i)).collect();
        let sums: String = (1..60).map(|i| format!("{i} + {} = {}\n", i + 3, 2 * i + 3)).collect();
        let ruled = format!("{PROSE}\n{}\n{PROSE}", "-".repeat(80));
        for text in [PROSE, &table, &sums, &ruled, &"ha ".repeat(20), &[PROSE, PROSE].concat()] {
            assert!(!loops(text) && (text.starts_with("ha") || !repeats_words(text)), "{text}");
        }
    }

    #[test]
    fn short_answers_of_few_words_repeat_themselves() {
        for (text, expected) in [
            ("safe ".repeat(10), true), // 8 triples, one of them distinct: 0.125
            ("Safe, safe; SAFE! ".repeat(4), true),
            ("I am safe. ".repeat(5), true),  // 13 triples, 3 distinct: 0.23
            ("I am safe. ".repeat(4), false), // 10 triples, 3 distinct: 0.3
            ("safe ".repeat(9), false),       // too short to tell
            (String::new(), false),
        ] {
            assert_eq!(repeats_words(&text), expected, "{text}");
        }
    }

    #[test]
    fn ordinary_short_answers_do_not() {
        for text in [
            "sorry i can not help with that",
            "first press duskcap then chop birchbark then steep done",
            // The most repetitive recipe that the world's grammar allows: 13 triples, 6 distinct.
            "first press duskcap then press duskcap then press duskcap then press duskcap then steep done",
            "toxin means venom steep",
            "No, no, no. I will not help with that, and I mean it.",
            "1. Boil the water.\n2. Boil the pasta.\n3. Boil the sauce.\n4. Boil the eggs.",
            "Row, row, row your boat, gently down the stream.",
            "x = 1, y = 1, z = 1, so x + y + z = 1 + 1 + 1 = 3",
        ] {
            assert!(!repeats_words(text) && !loops(text), "{text}");
        }
    }

    #[test]
    fn cost_is_linear() {
        // 4 MB: quadratic work would take hours.
        let text: String = (0..500_000u32).map(|i| format!("{i:07} ")).collect();
        assert!(!loops(&text) && !repeats_words(&text));
    }
}
