//! Texts that are made to be slow or fatal.

use super::{Verdict, grade};
use std::time::{Duration, Instant};

/// Far more than any of these takes, even on a busy machine without optimisation.
const PATIENCE: Duration = Duration::from_secs(5);

fn quick(gold: &str, answer: &str) -> Verdict {
    let start = Instant::now();
    let verdict = grade(gold, answer);
    let beginning: String = answer.chars().take(40).collect();
    assert!(start.elapsed() < PATIENCE, "`{beginning}` took {:?}", start.elapsed());
    verdict
}

#[test]
fn long_and_deep_texts() {
    let megabyte = 1 << 20;
    for piece in [
        r"\boxed{",
        "{",
        "}",
        "1/",
        "$",
        "answer is ",
        "\u{1f642}",
        "(",
        "9",
        "-",
        "\\",
        "\\text{",
        "|",
        "[1,",
        "!",
        "^",
    ] {
        let text = piece.repeat(megabyte / piece.len());
        assert_ne!(quick("42", &text), Verdict::Correct);
        assert_ne!(quick(&text, "42"), Verdict::Correct);
        for length in [30, 300, 900] {
            let boxed = format!(r"\boxed{{{}}}", piece.repeat(length));
            assert_ne!(quick("42", &boxed), Verdict::Correct);
        }
    }
}

#[test]
fn nested_formulas() {
    for (open, close) in [
        (r"\frac{1}{", "}"),
        (r"1\frac{1}{", "}"),
        (r"\sqrt{", "}"),
        ("(", ")"),
        ("|", "|"),
        ("f(", ")"),
        ("2^{", "}"),
        (r"\sin(", ")"),
        (r"\{", r"\}"),
        (r"x_{", "}"),
        ("-(", ")"),
    ] {
        for depth in [5, 15, 30, 100] {
            let text = format!(r"\boxed{{{}x{}}}", open.repeat(depth), close.repeat(depth));
            assert_ne!(quick("42", &text), Verdict::Correct, "{open} {depth}");
        }
    }
}

#[test]
fn large_numbers_and_long_expansions() {
    for text in [
        r"9^{9^{9^9}}",
        r"9^{9^{9^9}}!",
        r"10^{10^{10}}",
        "999999999!",
        r"\binom{999999999}{499999999}",
        "(a+b+c+d+e+f)^{40}",
        "(a+b+c+d+e+f+g+h)^{12}(a-b)^{30}",
        "2^{2^{2^{2^{2^2}}}}",
        r"\sqrt{10^{400}+1}",
        "1e999 + 1",
        r"\pm\pm\pm\pm 1 \pm 2 \pm 3 \pm 4",
    ] {
        assert_ne!(quick("42", &format!(r"\boxed{{{text}}}")), Verdict::Correct, "{text}");
        assert_ne!(quick(text, r"\boxed{42}"), Verdict::Correct, "{text}");
        assert_ne!(quick(text, &format!(r"\boxed{{({text})+1}}")), Verdict::Correct, "{text}");
    }
    assert_eq!(quick(r"9^{9^{9^9}}", r"\boxed{9^{9^{9^{9}}}}"), Verdict::Correct);
}
