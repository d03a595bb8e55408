//! Laws that hold for every answer, on random ones. Proptest prints the seed of a failure.

use super::{Verdict, grade};
use proptest::prelude::*;

/// Formulas that make sense, though some have no value.
fn formula() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (0u32..1000).prop_map(|n| n.to_string()),
        (0u32..100, 0u32..1000).prop_map(|(a, b)| format!("{a}.{b}")),
        Just(r"\pi".to_owned()),
        Just("x".to_owned()),
        Just("i".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) + ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!(r"({a}) \cdot ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!(r"\frac{{{a}}}{{{b}}}")),
            (inner.clone(), 0u32..5).prop_map(|(a, n)| format!("({a})^{{{n}}}")),
            inner.clone().prop_map(|a| format!(r"\sqrt{{{a}}}")),
            inner.clone().prop_map(|a| format!(r"\sin({a})")),
            inner.prop_map(|a| format!("-({a})")),
        ]
    })
}

/// Pieces of LaTeX in any order.
fn rubbish() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        r"\frac",
        "{",
        "}",
        r"\boxed{",
        "$",
        "(",
        ")",
        "[",
        "]",
        "|",
        "^",
        "_",
        "1",
        "23",
        ".",
        ",",
        "x",
        "i",
        r"\sqrt",
        r"\text{",
        " and ",
        "=",
        "<",
        r"\pm",
        "!",
        "%",
        r"\{",
        r"\}",
        r"\\",
        r"\begin{matrix}",
        r"\end{matrix}",
        "&",
        ";",
        "/",
        "-",
        r"\cup",
        r"\infty",
        "é",
        "√",
        r"\left.",
        "answer is ",
        "\n",
    ]);
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn nothing_panics(gold in rubbish(), answer in rubbish(), any in any::<String>()) {
        let _ = (grade(&gold, &answer), grade(&any, &answer), grade(&gold, &any));
    }

    #[test]
    fn a_formula_equals_itself(text in formula()) {
        prop_assert_eq!(grade(&text, &format!(r"so \boxed{{{text}}}.")), Verdict::Correct);
        let spaced = text.replace('(', r"\left( ").replace(r"\frac", r"\dfrac");
        prop_assert_ne!(grade(&text, &format!(r"\boxed{{{spaced}}}")), Verdict::Wrong);
    }

    #[test]
    fn one_more_is_never_correct(text in formula()) {
        prop_assert_ne!(grade(&text, &format!(r"\boxed{{({text}) + 1}}")), Verdict::Correct);
    }
}
