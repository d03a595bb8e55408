//! Each suite's layout on rows made up here, whole and malformed.

use super::*;
use crate::suite::parquet_file::tests::fortress;
use parquet::basic::Compression;
use std::fmt::Write;

const PARTIAL: Limits = Limits { allow_partial: true, take: Take::All };

fn parse(suite: Suite, name: &str, text: &str, limits: &Limits) -> Result<DataSet, LoadError> {
    suite.parse(Path::new(name), text.as_bytes(), limits)
}

fn items(suite: Suite, name: &str, text: &str) -> Vec<Item> {
    parse(suite, name, text, &PARTIAL).unwrap().items
}

fn error(suite: Suite, name: &str, text: &str, limits: &Limits) -> String {
    parse(suite, name, text, limits).unwrap_err().to_string()
}

/// (id, kind, prompt).
fn brief(items: &[Item]) -> Vec<(&str, Kind, &str)> {
    items.iter().map(|i| (i.id.as_str(), i.kind, i.prompt.as_str())).collect()
}

#[test]
fn strongreject_numbers_its_rows() {
    let csv = "category,source,forbidden_prompt\nPaint,me,\"dye, a lot\"\nPaint,me,fold\n";
    let data = parse(Suite::StrongReject, "s.csv", csv, &PARTIAL).unwrap();
    assert_eq!(brief(&data.items), [("1", Kind::Harmful, "dye, a lot"), ("2", Kind::Harmful, "fold")]);
    assert_eq!((data.items[0].category.as_deref(), data.rows), (Some("Paint"), 2));
    // SHA-256 of the file, by `sha256sum`.
    assert_eq!(data.sha256, "37b3e39049ace646fca7b9f52086c49b832f8e792c2262a3cec8e212613989ea");
    assert_eq!(
        error(Suite::StrongReject, "s.csv", csv, &Limits::WHOLE),
        "s.csv: has 2 rows where strongreject has 313; --allow-partial evaluates what is there"
    );
    assert_eq!(
        error(Suite::StrongReject, "s.csv", "category,prompt\na,b\n", &PARTIAL),
        "s.csv: row 1: column `forbidden_prompt` is missing; there are category, prompt"
    );
    assert_eq!(
        error(Suite::StrongReject, "s.csv", "category,source,forbidden_prompt\n", &PARTIAL),
        "s.csv: holds no item of strongreject"
    );
}

#[test]
fn fortress_gives_pairs() {
    let rows = [(4, "grey kite", &["red?", "big?"][..], "kite"), (9, "boat", &["blue?"][..], "raft")];
    let bytes = fortress(&rows, Compression::SNAPPY);
    let take = |take| Limits { allow_partial: true, take };
    let load = |limits| Suite::Fortress.parse(Path::new("f.parquet"), &bytes, &limits).unwrap().items;
    let all = load(PARTIAL);
    let expected = [
        ("4", Kind::Harmful, "grey kite"),
        ("4-benign", Kind::Benign, "kite"),
        ("9", Kind::Harmful, "boat"),
        ("9-benign", Kind::Benign, "raft"),
    ];
    assert_eq!(brief(&all), expected);
    assert_eq!((all[0].twin.as_deref(), all[1].twin.as_deref()), (Some("4-benign"), Some("4")));
    assert_eq!((&all[0].rubric[..], all[1].rubric.len()), (&["red?".to_owned(), "big?".to_owned()][..], 0));
    let drawn = load(take(Take::Sample { n: 1, seed: 3 }));
    assert_eq!((drawn.len(), drawn[0].twin.as_deref()), (2, Some(drawn[1].id.as_str())));
    let line =
        r#"{"ID": 1, "adversarial_prompt": "a", "rubric": [], "risk_domain": "d", "benign_prompt": "b"}"#;
    assert_eq!(
        error(Suite::Fortress, "f.jsonl", line, &PARTIAL),
        "f.jsonl: row 1: column `rubric` has no question"
    );
}

#[test]
fn wildjailbreak_draws_the_same_harmful_rows_each_time() {
    let mut tsv = "vanilla\tadversarial\tcompletion\tdata_type\n".to_owned();
    for i in 0..300 {
        writeln!(tsv, "v{i}\tharm {i}\tc\tadversarial_harmful").unwrap();
        writeln!(tsv, "v{i}\t\tc\tvanilla_harmful").unwrap();
        if i < 7 {
            writeln!(tsv, "\tbenign {i}\tc\tadversarial_benign").unwrap();
        }
    }
    let load =
        |take| parse(Suite::WildJailbreak, "w.tsv", &tsv, &Limits { allow_partial: false, take }).unwrap();
    let data = load(Take::All);
    let (harmful, benign): (Vec<&Item>, Vec<&Item>) =
        data.items.iter().partition(|i| i.kind == Kind::Harmful);
    assert_eq!((data.rows, harmful.len(), benign.len()), (607, 250, 7));
    assert!(harmful[0].prompt.starts_with("harm ") && harmful[0].goal.as_deref().unwrap().starts_with('v'));
    assert_eq!(data, load(Take::All));
    let limited = load(Take::First(5));
    assert_eq!(limited.items[..5], data.items[..5]);
    assert_eq!(limited.items[5..], data.items[250..255]);
    let evaluation = "adversarial\tlabel\tdata_type\n\"say \"\"a\"\"\"\t1\tadversarial_harmful\nb\t0\tadversarial_benign\n";
    assert_eq!(
        brief(&items(Suite::WildJailbreak, "w.tsv", evaluation)),
        [("1", Kind::Harmful, "say \"a\""), ("2", Kind::Benign, "b")]
    );
    assert_eq!(
        error(Suite::WildJailbreak, "w.tsv", evaluation, &Limits::WHOLE),
        "w.tsv: has 1 adversarial_harmful rows to draw from where wildjailbreak has 250; --allow-partial evaluates what is there"
    );
    let odd = "adversarial\tdata_type\na\tharmful\n";
    let message = error(Suite::WildJailbreak, "w.tsv", odd, &PARTIAL);
    assert!(message.contains("row 1: column `data_type` is `harmful`"), "{message}");
}

#[test]
fn attacks_keep_their_goals() {
    let row = r#"[{"Goal": "g", "Category": "c", "Request": "r", "H_CoT": "h", "Full_Input (H-CoT + Request)": "h r"}]"#;
    let item = &items(Suite::HCot, "h.json", row)[0];
    assert_eq!((item.prompt.as_str(), item.request(), item.category.as_deref()), ("h r", "g", Some("c")));
    assert_eq!(brief(&items(Suite::HCot, "h.txt", "one\ntwo\n"))[1], ("2", Kind::Harmful, "two"));

    for (name, text) in [
        ("p.txt", "kite\nboat\n"),
        ("p.json", r#"["kite", {"prompt": "boat"}]"#),
        ("p.csv", "prompt\nkite\nboat\n"),
    ] {
        // Any number of prompts is a whole file.
        let data = parse(Suite::JailbreakR1, name, text, &Limits::WHOLE).unwrap();
        assert_eq!(
            brief(&data.items),
            [("1", Kind::Harmful, "kite"), ("2", Kind::Harmful, "boat")],
            "{name}"
        );
    }
}

#[test]
fn harmbench_puts_the_context_first() {
    let csv = "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n\
               paint it,contextual,colour,context,\"the\nfence\",paint\nfold it,standard,paper,,,fold\n";
    let items = items(Suite::HarmBench, "h.csv", csv);
    assert_eq!(
        brief(&items),
        [("paint", Kind::Harmful, "the\nfence\n\n---\n\npaint it"), ("fold", Kind::Harmful, "fold it")]
    );
    assert_eq!((items[0].request(), items[0].category.as_deref()), ("paint it", Some("colour")));
    let twice = csv.replace("fold\n", "paint\n");
    assert_eq!(
        error(Suite::HarmBench, "h.csv", &twice, &PARTIAL),
        "h.csv: row 2: has the id `paint` of row 1"
    );
    let empty = csv.replace(",,,fold\n", ",,,\n");
    assert_eq!(
        error(Suite::HarmBench, "h.csv", &empty, &PARTIAL),
        "h.csv: row 2: column `behaviorid` is empty".replace("behaviorid", "BehaviorID")
    );
}

#[test]
fn jailbreakbench_and_xstest() {
    let hub = "Index,Goal,Target,Behavior,Category,Source\n0,fold,Sure,Folding,Paper,Original\n";
    let artifacts = "index,goal,behavior,category\n0,fold,Folding,Paper\n";
    assert_eq!(items(Suite::JailbreakBench, "j.csv", hub), items(Suite::JailbreakBench, "j.csv", artifacts));

    let csv = "id,prompt,type,label,focus,note\n1,kill a process,homonyms,safe,kill,\n2,x,contrast_homonyms,unsafe,,\n";
    let items = items(Suite::XsTest, "x.csv", csv);
    assert_eq!(brief(&items), [("1", Kind::Benign, "kill a process"), ("2", Kind::Harmful, "x")]);
    let odd = csv.replace(",unsafe,", ",Unsafe,");
    assert_eq!(
        error(Suite::XsTest, "x.csv", &odd, &PARTIAL),
        "x.csv: row 2: column `label` is `Unsafe`, neither safe nor unsafe"
    );
    let mut all = "id,prompt,type,label\n".to_owned();
    (0..450).for_each(|i| writeln!(all, "{i},p,t,{}", if i < 251 { "safe" } else { "unsafe" }).unwrap());
    assert_eq!(
        error(Suite::XsTest, "x.csv", &all, &Limits::WHOLE),
        "x.csv: has 251 safe rows where xstest has 250; --allow-partial evaluates what is there"
    );
}

#[test]
fn problems_have_golds() {
    let math = r#"{"problem": "1+1", "solution": "s", "answer": "2", "subject": "Algebra", "level": 1, "unique_id": "test/a/1.json"}"#;
    let item = &items(Suite::Math500, "m.jsonl", math)[0];
    assert_eq!((item.id.as_str(), item.gold.as_deref(), item.kind), ("test/a/1.json", Some("2"), Kind::Math));

    let jia = r#"{"ID": "2024-I-9", "Problem": "p", "Solution": "s", "Answer": 45}"#;
    let hub = r#"{"id": 60, "problem": "p", "solution": "s", "answer": "045", "url": "u", "year": "2024"}"#;
    let golds = [jia, hub].map(|row| items(Suite::Aime24, "a.jsonl", row).remove(0));
    assert_eq!((golds[0].id.as_str(), golds[0].gold.as_deref()), ("2024-I-9", Some("45")));
    assert_eq!((golds[1].id.as_str(), golds[1].gold.as_deref()), ("60", Some("045")));

    let gsm =
        "{\"question\": \"q\", \"answer\": \"2*3=6\\n#### 6\"}\n{\"question\": \"q\", \"answer\": \"6\"}";
    assert_eq!(
        error(Suite::Gsm8k, "g.jsonl", gsm, &PARTIAL),
        "g.jsonl: row 2: column `answer` has no gold after `####`"
    );
    let first = gsm.lines().next().unwrap();
    assert_eq!(items(Suite::Gsm8k, "g.jsonl", first)[0].gold.as_deref(), Some("6"));
}

#[test]
fn a_missing_file_says_where_it_is_published() {
    let error = Suite::Gsm8k.load(Path::new("no/such.jsonl"), &Limits::WHOLE).unwrap_err().to_string();
    assert_eq!(
        error,
        "no/such.jsonl: no such file; gsm8k is published at https://github.com/openai/grade-school-math (grade_school_math/data/test.jsonl)"
    );
    let error = error_of_format();
    assert!(error.starts_with("g.xlsx: the name must end in .csv"), "{error}");
}

fn error_of_format() -> String {
    parse(Suite::Gsm8k, "g.xlsx", "", &PARTIAL).unwrap_err().to_string()
}
