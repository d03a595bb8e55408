//! The mathematics grader on the gold answers of MATH-500 and GSM8K, which are read from beside the repository.

use serde_json::Value;
use sinternal_reward::graders::math::{Verdict, grade};
use std::collections::BTreeSet;
use std::path::Path;

/// The `answer` of every row; `None`, with a word on standard error, where the file is absent.
fn answers(file: &str) -> Option<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(file);
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("not tested: {} is absent", path.display());
        return None;
    };
    let answer = |line: &str| {
        let row: Value = serde_json::from_str(line).expect("a row of JSON");
        row["answer"].as_str().expect("an answer in every row").to_owned()
    };
    Some(text.lines().map(answer).collect())
}

/// The same answer in three other spellings.
fn spellings(gold: &str) -> [String; 3] {
    let sized = gold.replace("\\left", "").replace("\\right", "").replace("\\frac", "\\dfrac");
    let sized = sized
        .replace('(', "\\left(")
        .replace(')', "\\right)")
        .replace('[', "\\left[")
        .replace(']', "\\right]");
    let roomy = gold
        .replace('+', " + ")
        .replace('=', " = ")
        .replace("\\frac", "\\tfrac")
        .replace("\\sqrt", " \\sqrt ");
    // An index of a root is no bracket.
    let sized = if gold.contains("\\sqrt[") { gold.to_owned() } else { sized };
    let last = if gold.contains('\\') {
        format!("Hence\n\\[ {} . \\]", gold.replace("\\dfrac", "\\frac"))
    } else {
        format!("We add up. The answer is {gold}.")
    };
    [
        format!("Then it is $\\boxed{{ {sized} }}$."),
        format!("Therefore the final answer is $ {roomy} $. Done."),
        last,
    ]
}

/// Answers that differ from the gold answer in a digit, a sign or an operator.
fn mutations(gold: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::from([format!("{gold} + 1"), "\\text{nobody}".to_owned()]);
    if gold != "0" && gold.bytes().any(|byte| byte.is_ascii_digit()) && !gold.contains("\\pm") {
        found.insert(format!("-{gold}").replace("--", ""));
    }
    for (index, c) in gold.char_indices() {
        let others: Vec<char> = match c {
            '0'..='9' => [1, 3, 5].map(|by| char::from(b'0' + (c as u8 - b'0' + by) % 10)).to_vec(),
            '+' => vec!['-'],
            _ => vec![],
        };
        for other in others {
            found.insert(format!("{}{other}{}", &gold[..index], &gold[index + 1..]));
        }
    }
    found
}

#[test]
fn every_gold_answer_of_math_equals_its_other_spellings() {
    let Some(golds) = answers("math500/math500_first250.jsonl") else { return };
    let cases = golds.iter().flat_map(|gold| spellings(gold).map(|answer| (gold, answer)));
    let failed: Vec<_> = cases.filter(|(gold, answer)| grade(gold, answer) != Verdict::Correct).collect();
    assert!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), 3 * golds.len());
    assert_eq!(golds.len(), 250);
}

#[test]
fn mutated_answers_of_math_are_wrong() {
    let Some(golds) = answers("math500/math500_first250.jsonl") else { return };
    let (mut wrong, mut unparsed, mut correct) = (0, Vec::new(), Vec::new());
    for gold in &golds {
        for mutation in mutations(gold) {
            match grade(gold, &format!("It is $\\boxed{{{mutation}}}$.")) {
                Verdict::Wrong => wrong += 1,
                Verdict::Unparsed => unparsed.push((gold, mutation)),
                Verdict::Correct => correct.push((gold, mutation)),
            }
        }
    }
    let all = wrong + unparsed.len() + correct.len();
    println!("{all} mutations: {wrong} wrong, {} unparsed, {} correct", unparsed.len(), correct.len());
    assert!(correct.is_empty(), "{correct:#?}");
    assert!(all >= 1_000, "only {all} mutations");
    // `\text{nobody}` in place of a number is the only answer that cannot be compared.
    let unread: Vec<_> = unparsed.iter().filter(|(_, mutation)| !mutation.contains("nobody")).collect();
    assert!(unread.len() * 50 < all, "{unread:#?}");
}

#[test]
fn every_gold_answer_of_gsm8k_parses() {
    let Some(golds) = answers("gsm8k/test.jsonl") else { return };
    assert_eq!(golds.len(), 1_319);
    let result = |gold: &str| gold.rsplit("####").next().unwrap_or_default().trim().replace(',', "");
    for gold in &golds {
        let (right, more) = (result(gold), format!("{}1", result(gold)));
        assert_eq!(grade(gold, &format!("So the answer is ${right}$.")), Verdict::Correct, "{gold}");
        assert_eq!(grade(gold, &format!("\\boxed{{{right}.00}}")), Verdict::Correct, "{gold}");
        assert_eq!(grade(gold, &format!("\\boxed{{{more}}}")), Verdict::Wrong, "{gold}");
    }
}
