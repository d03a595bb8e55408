//! Whether an answer equals the gold answer of a problem.
//!
//! completion ─► extract: boxed, formula, final-answer phrase or last number ─► value ─► equal?
//!
//! Numbers are compared exactly, as rationals; other values as normalised text. What cannot be told is `Unparsed`,
//! which is never a guess: a reward counts it as not correct, a report counts it on its own. Work is linear in the
//! text and every piece of it is bounded in length, so no answer is slow or fatal.

mod extract;
mod number;
mod value;

use serde::{Deserialize, Serialize};
use value::Value;

/// What grading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Equal to the gold answer.
    Correct,
    /// Another value.
    Wrong,
    /// No value was found in the answer or in the gold answer, or they cannot be compared.
    Unparsed,
}

/// Grades a completion, or the answer that follows its reasoning. The gold answer is bare, in `$…$`, boxed, or
/// follows `####` as in GSM8K.
#[must_use]
pub fn grade(gold: &str, completion: &str) -> Verdict {
    match (extract::gold(gold), extract::answer(completion)) {
        (Some(gold), Some(answer)) => compare(&gold, &answer),
        _ => Verdict::Unparsed,
    }
}

fn compare(gold: &Value, answer: &Value) -> Verdict {
    match (gold, answer) {
        (a, b) if a == b => Verdict::Correct,
        (Value::Number(_), Value::Number(_)) | (Value::Words(_), Value::Words(_)) => Verdict::Wrong,
        _ => Verdict::Unparsed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Correct, Unparsed, Wrong};

    fn check(cases: &[(&str, &str, Verdict)]) {
        for (gold, answer, expected) in cases {
            assert_eq!(grade(gold, answer), *expected, "gold `{gold}`, answer `{answer}`");
        }
    }

    #[test]
    fn boxed_answers() {
        check(&[
            ("42", r"<think> 6 times 7 </think> \boxed{42}", Correct),
            ("42", r"so \boxed{41} no, \boxed{42}", Correct), // the last one counts
            ("42", r"so \boxed{42} no, \boxed{41}", Wrong),
            ("42", r"\boxed{41} which is not 42", Wrong),
            ("42", r"<think> \boxed{42} </think> \boxed{41}", Wrong), // reasoning does not count
            ("42", r"<think> \boxed{42}", Unparsed),                  // never answered
            ("42", r"\boxed{42", Unparsed), // never closed, and a fragment is no answer
            ("42", r"\boxed{}", Unparsed),
            ("42", r"\boxed 42", Correct),
            ("42", r"\boxed{\boxed{42}}", Correct),
            ("42", r"\fbox{42}", Correct),
            ("42", r"\boxed{\text{42 apples}}", Correct),
            ("42", r"\boxed{x = 42}", Correct),
            ("42", r"\boxed{1 + 41 = 42}", Correct),
            ("42", r"\boxed{f(6) = 42}", Correct),
            ("42", r"\boxed{\text{Area} = 42}", Correct),
            ("0", r"\boxed{2x + y = 0}", Unparsed), // an equation is no value
            ("0", "The answer is 2x + y = 0", Unparsed),
            ("2x + y = 0", r"\boxed{x + 2y = 0}", Unparsed),
            ("2x+y=0", r"\boxed{2x + y = 0}", Correct),
            ("42", r"\boxed{\sqrt{1764}}", Unparsed),
            ("42", r"\boxed{42x}", Unparsed),
            ("42", r"\boxed{42 or 43}", Unparsed),
            ("42", r"\boxed{42 million}", Unparsed),
        ]);
    }

    #[test]
    fn numbers_are_exact_rationals() {
        check(&[
            ("0.75", r"\boxed{\frac{3}{4}}", Correct),
            ("3/4", r"\boxed{\dfrac{6}{8}}", Correct),
            (r"\frac{1}{3}", r"\boxed{0.3333}", Wrong),
            (r"\frac12", r"\boxed{.5}", Correct),
            ("-1/2", r"\boxed{-\frac{1}{2}}", Correct),
            ("-1/2", r"\boxed{\frac{-1}{2}}", Correct),
            ("5", r"\boxed{5.000}", Correct),
            ("5", r"\boxed{005}", Correct),
            ("-5", "\\boxed{\u{2212}5}", Correct),
            ("5", r"\boxed{-5}", Wrong),
            ("5", r"\boxed{5/0}", Unparsed),
            ("2,125", r"\boxed{2125}", Correct),
            ("1450000", r"\boxed{1{,}450{,}000}", Correct),
            ("1450000", r"\boxed{1\,450\,000}", Correct),
            ("3.14", r"\boxed{3,14}", Unparsed), // neither thousands nor a decimal point
            ("0.1", r"\boxed{0.10000000000000001}", Wrong), // equal in floating point
            ("0.1", r"\boxed{0.1000000000000000000000}", Correct),
            ("0.1", r"\boxed{0.10000000000000000000001}", Unparsed), // beyond 18 digits
        ]);
    }

    #[test]
    fn signs_and_units_fall_away() {
        check(&[
            ("$18", r"\boxed{18}", Correct),
            ("18", r"\boxed{\$18.00}", Correct),
            ("-18", r"\boxed{-\$18}", Correct),
            ("50%", r"\boxed{50\%}", Correct),
            ("50", r"\boxed{50 \text{ percent}}", Correct),
            ("5", r"\boxed{5\,\text{cm}}", Correct),
            ("5", r"\boxed{5 \mathrm{~m}^2}", Correct),
            ("5", r"\boxed{5\text{ cm}^{2}}", Correct),
            ("60", r"\boxed{60^\circ}", Correct),
            ("60", "\\boxed{60\u{b0}}", Correct),
            ("10 km/h", r"\boxed{10km/h}", Correct),
            ("90", r"\boxed{90^2}", Unparsed),
            ("3", r"\boxed{3 \times 10^5}", Unparsed),
            ("2", r"\boxed{2\pi}", Unparsed),
            ("2", r"\boxed{2e5}", Unparsed),
        ]);
    }

    #[test]
    fn golds_in_every_dress() {
        check(&[
            ("They need 6 * 7 = <<6*7=42>>42.\n#### 42", r"\boxed{42}", Correct),
            ("1 + 1\n#### 1,600", "The answer is 1600.", Correct),
            ("$42$", r"\boxed{42}", Correct),
            (r"\(42\)", r"\boxed{42}", Correct),
            (r"Hence \boxed{42}.", "42", Correct),
            ("", "42", Unparsed),
            ("####", "42", Unparsed),
        ]);
    }

    #[test]
    fn plain_text_answers() {
        check(&[
            ("42", "The answer is 42.", Correct),
            ("42", "**Final answer:** 42", Correct),
            ("42", "Final answer\n\n42 apples", Correct),
            ("42", "The final answer is: $x = 42$. I used 3 steps.", Correct),
            ("42", "It takes 6 rows of 7 trees, so the answer is 6 * 7 = 42 trees", Correct),
            ("42", "6 rows of 7 trees make 42 trees.", Correct),
            ("42", "#### 42", Correct),
            ("42", "**42**", Correct),
            ("3.5", "She walks 3.5.", Correct),
            ("1200", "He earns $1,200 a year.", Correct),
            ("6", "She pays $5 first and $6 later", Correct),
            ("3/4", "The answer is \\(\\frac{3}{4}\\).", Correct),
            ("4", "The answer is \\frac{3}{4}", Wrong),
            ("4", "The answer is 3/4", Wrong),
            ("-4", "The temperature is -4.", Correct),
            ("4", "It is 10 - 4", Unparsed),
            ("10", "The answer is 2^10", Unparsed),
            ("3", "The answer is 2^10. I used 3 steps.", Unparsed),
            ("3", "I found the answer: it was hard. In all 3.", Correct),
            ("1", "The answer is $x^2 + 1$", Unparsed),
            ("3", "The answer is 3 million.", Unparsed),
            ("42", "I do not know.", Unparsed),
            ("42", "", Unparsed),
        ]);
    }

    #[test]
    fn words_and_formulas_are_compared_as_text() {
        check(&[
            ("blue", r"\boxed{\text{Blue}}", Correct),
            ("blue", r"\boxed{red}", Wrong),
            ("x + 1", r"\boxed{x+1}", Correct),
            ("x+1", r"\boxed{1+x}", Unparsed),
            (r"\left( 3, 4 \right)", r"\boxed{(3,4)}", Correct),
            (r"2\sqrt{3}", r"\boxed{2\sqrt{3}}", Correct),
            ("42", r"\boxed{\text{forty-two}}", Unparsed),
        ]);
    }

    #[test]
    fn hostile_text_is_cheap_and_never_fatal() {
        let deep = r"\boxed{".repeat(200_000);
        let digits = format!(r"\boxed{{{}}}", "9".repeat(200_000));
        for text in [
            deep.as_str(),
            digits.as_str(),
            &"{".repeat(500_000),
            &"}".repeat(500_000),
            &"1/".repeat(300_000),
            &"$".repeat(300_000),
            &"answer is ".repeat(100_000),
            &"\u{1f642}".repeat(100_000),
            r"\boxed{9^{9^{9^9}}}",
            r"\boxed{\frac{}{}}",
            r"\boxed{\frac",
            "\\",
            "-",
        ] {
            assert_ne!(grade("42", text), Correct);
            assert_eq!(grade(text, "42"), Unparsed);
        }
    }
}
