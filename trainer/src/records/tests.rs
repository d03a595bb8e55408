use super::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde::Deserialize;
use serde_json::{Value, json};
use sinternal_proto::{PolicyVersion, SampleIndex, Sha256};
use std::fs;

fn answer(prompt: &str, sample: u32) -> CollectedRecord {
    CollectedRecord {
        prompt: prompt.into(),
        kind: if prompt.starts_with('h') { PromptKind::Harmful } else { PromptKind::Benign },
        spec: "S".into(),
        request: "x\u{2028}\"y\"".into(),
        family: String::new(),
        sample: SampleIndex(sample),
        reasoning: "z".into(),
        answer: "line\nline".into(),
        reasoning_closed: true,
        truncated: false,
        policy: PolicySource { hash: Sha256::of(b"policy"), version: PolicyVersion(2) },
        tokens: Some(ReplayTokens { prompt: vec![1, 2], completion: vec![3] }),
    }
}

fn critiqued(judgment: Verdict) -> CritiquedRecord {
    let raw = (judgment == Verdict::Invalid).then(|| "hm".into());
    CritiquedRecord {
        collected: answer("h1", 0),
        expert: "e".into(),
        critique: "c".into(),
        judgment,
        raw,
        label: None,
    }
}

fn made_of(seed: u64) -> Provenance {
    Provenance { seed, settings: json!({ "samples": 8, "temperature": 0.1 }), inputs: Vec::new() }
}

/// Three rows in a folder of their own.
fn three() -> [CollectedRecord; 3] {
    [answer("h1", 0), answer("h1", 1), answer("b1", 0)]
}

fn written(path: &Path, rows: &[CollectedRecord]) -> Manifest {
    let mut writer = RecordWriter::create(path, made_of(1)).unwrap();
    for row in rows {
        assert_eq!(writer.push(row).unwrap(), Pushed::Written);
    }
    writer.finish().unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The error's text, without the folder.
fn told<T>(result: Result<T, RecordError>, dir: &Path) -> String {
    let error = result.err().expect("an error").to_string();
    error.replace(&format!("{}/", dir.display()), "")
}

#[test]
fn a_file_appears_whole_with_its_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let (path, input) = (dir.path().join("a.jsonl"), dir.path().join("prompts.txt"));
    fs::write(&input, "abc").unwrap();
    let made_of = Provenance::new(5, &json!({ "samples": 2 }), &[&input]).unwrap();
    let mut writer = RecordWriter::create(&path, made_of.clone()).unwrap();
    for row in &three() {
        writer.push(row).unwrap();
    }
    assert_eq!(names(dir.path()), ["a.jsonl.part", "a.jsonl.part.json", "prompts.txt"]);
    let manifest = writer.finish().unwrap();
    assert_eq!(names(dir.path()), ["a.jsonl", "a.manifest.json", "prompts.txt"]);

    let (rows, read) = read_all::<CollectedRecord>(&path).unwrap();
    assert_eq!((&rows[..], &read), (&three()[..], &manifest));
    assert_eq!((read.rows, &read.sha256), (3, &Sha256::of(&fs::read(&path).unwrap())));
    assert_eq!(read.counts.into_iter().collect::<Vec<_>>(), [("benign".into(), 1), ("harmful".into(), 2)]);
    // FIPS 180-4's example.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!((&*read.made_of.inputs[0].name, &*read.made_of.inputs[0].sha256.0), ("prompts.txt", abc));
    assert_eq!((read.made_of, read.program), (made_of, format!("sinternal {}", env!("CARGO_PKG_VERSION"))));
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3, "line ends inside texts are escaped");
}

#[test]
fn damage_is_found_before_a_row_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, path) = (dir.path(), dir.path().join("a.jsonl"));
    written(&path, &three());
    let good = fs::read_to_string(&path).unwrap();
    let read = || told(open::<CollectedRecord>(&path), dir);

    assert_eq!(
        told(open::<VerificationRow>(&path), dir),
        "a.jsonl: holds collected answers, not verification rows"
    );
    fs::write(&path, good.replacen("line", "lime", 1)).unwrap();
    assert_eq!(read(), "a.jsonl: does not match the hash in its manifest: it was changed since");
    fs::write(&path, good.lines().next().unwrap().to_owned() + "\n").unwrap();
    assert_eq!(read(), "a.jsonl: holds 1 rows; its manifest says 3");
    let manifest = dir.join("a.manifest.json");
    fs::write(&manifest, fs::read_to_string(&manifest).unwrap().replace("\"format\": 1", "\"format\": 9"))
        .unwrap();
    assert_eq!(read(), "a.manifest.json: has format 9, this program reads 1");
    fs::remove_file(&manifest).unwrap();
    assert!(read().starts_with("a.manifest.json: No such file"), "{}", read());
    assert_eq!(told(Manifest::read(&dir.join("a.csv")), dir), "a.csv: a file of rows is named *.jsonl");
}

/// Any JSON under the name of collected answers.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Loose(Value);

impl Record for Loose {
    const STAGE: &'static str = CollectedRecord::STAGE;

    fn id(&self) -> String {
        self.0.to_string()
    }

    fn class(&self) -> String {
        "any".into()
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn a_line_that_is_no_row_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let good = serde_json::to_value(answer("h1", 0)).unwrap();
    let changed = |key: &str, value: Value| {
        let mut row = good.clone();
        row[key] = value;
        row
    };
    let told = |second: Value| {
        let mut writer = RecordWriter::create(&path, made_of(1)).unwrap();
        writer.push(&Loose(good.clone())).unwrap();
        writer.push(&Loose(second)).unwrap();
        writer.finish().unwrap();
        told(read_all::<CollectedRecord>(&path), dir.path())
    };
    assert!(told(changed("grade", json!(1))).starts_with("a.jsonl:2: unknown field `grade`, expected "));
    assert!(told(json!({ "prompt": "h1" })).starts_with("a.jsonl:2: missing field `kind` (column "));
    assert_eq!(told(changed("prompt", json!(""))), "a.jsonl:2: prompt: is empty");
    let hash = told(changed("policy", json!({ "hash": "abc", "version": 1 })));
    assert!(hash.starts_with("a.jsonl:2: policy.hash"), "{hash}");
}

#[test]
fn a_stage_goes_on_where_it_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let [whole, path] = ["whole.jsonl", "a.jsonl"].map(|name| dir.path().join(name));
    let uninterrupted = written(&whole, &three());

    let mut writer = RecordWriter::resume(&path, made_of(1)).unwrap();
    assert_eq!(writer.resumed(), Resumed::default());
    for row in &three()[..2] {
        writer.push(row).unwrap();
    }
    drop(writer);
    let part = dir.path().join("a.jsonl.part");
    let mut bytes = fs::read(&part).unwrap();
    bytes.extend_from_slice(b"{\"prompt\": \"b");
    fs::write(&part, bytes).unwrap();

    let mut writer = RecordWriter::resume(&path, made_of(1)).unwrap();
    assert_eq!(writer.resumed(), Resumed { rows: 2, torn_bytes: 13 });
    let there = three().map(|row| writer.contains(&row.id()));
    assert_eq!(there, [true, true, false]);
    let pushed = three().map(|row| writer.push(&row).unwrap());
    assert_eq!(pushed, [Pushed::Known, Pushed::Known, Pushed::Written]);
    assert_eq!(writer.finish().unwrap(), uninterrupted);
    assert_eq!(fs::read(&path).unwrap(), fs::read(&whole).unwrap());
}

#[test]
fn a_stage_does_not_go_on_with_other_settings_or_a_damaged_part() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, path) = (dir.path(), dir.path().join("a.jsonl"));
    let mut writer = RecordWriter::create(&path, made_of(1)).unwrap();
    for row in &three()[..2] {
        writer.push(row).unwrap();
    }
    drop(writer);
    let other = told(RecordWriter::<CollectedRecord>::resume(&path, made_of(2)), dir);
    assert_eq!(other, "a.jsonl.part: was begun with other inputs, settings or seed; remove it to begin anew");
    let other = told(RecordWriter::<VerificationRow>::resume(&path, made_of(1)), dir);
    assert!(other.starts_with("a.jsonl.part: was begun with other"), "{other}");

    let part = dir.join("a.jsonl.part");
    let lines = fs::read_to_string(&part).unwrap();
    let first = lines.lines().next().unwrap();
    fs::write(&part, format!("{first}\n{first}\n")).unwrap();
    let damaged = || told(RecordWriter::<CollectedRecord>::resume(&path, made_of(1)), dir);
    assert!(
        damaged().contains("a.jsonl.part: row h1#0@") && damaged().ends_with(": is there twice"),
        "{}",
        damaged()
    );
    fs::write(&part, format!("{first}\nnull\n{first}\n")).unwrap();
    assert!(damaged().starts_with("a.jsonl.part:2: invalid type: null"), "{}", damaged());
    fs::remove_file(dir.join("a.jsonl.part.json")).unwrap();
    assert!(damaged().ends_with("remove it to begin anew"), "{}", damaged());

    // Beginning anew takes nothing over.
    assert_eq!(written(&path, &three()).rows, 3);
}

#[test]
fn a_finished_stage_is_recognised() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    assert_eq!(finished::<CollectedRecord>(&path, &made_of(1)).unwrap(), None);
    let manifest = written(&path, &three());
    assert_eq!(finished::<CollectedRecord>(&path, &made_of(1)).unwrap(), Some(manifest));
    assert_eq!(
        told(finished::<CollectedRecord>(&path, &made_of(2)), dir.path()),
        "a.jsonl: was made with other inputs, settings or seed; move it away to make it anew"
    );
}

#[test]
fn one_process_writes_and_each_row_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let mut writer = RecordWriter::create(&path, made_of(1)).unwrap();
    let second = RecordWriter::<CollectedRecord>::create(&path, made_of(1));
    assert_eq!(told(second, dir.path()), "a.jsonl.part: another process is writing it");
    writer.push(&answer("h1", 0)).unwrap();
    let twice = told(writer.push(&answer("h1", 0)), dir.path());
    assert!(twice.starts_with("a.jsonl: row h1#0@") && twice.ends_with(": is there twice"), "{twice}");
    let long = CollectedRecord { reasoning: "z".repeat(MOST_LINE_BYTES), ..answer("h1", 1) };
    assert!(told(writer.push(&long), dir.path()).ends_with(": is longer than 16777216 bytes"));
    assert_eq!(writer.finish().unwrap().rows, 1);
}

#[test]
fn what_no_row_accounts_for_is_not_put_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let mut writer = RecordWriter::create(&path, made_of(1)).unwrap();
    writer.push(&answer("h1", 0)).unwrap();
    let part = dir.path().join("a.jsonl.part");
    let mut bytes = fs::read(&part).unwrap();
    bytes.extend_from_slice(b"{\"half");
    fs::write(&part, bytes).unwrap();
    let problem = told(writer.finish(), dir.path());
    assert!(problem.starts_with("a.jsonl.part: holds bytes that no row accounts for"), "{problem}");
    assert_eq!(names(dir.path()), ["a.jsonl.part", "a.jsonl.part.json"]);
}

#[test]
fn rows_are_checked_on_their_way_in() {
    let good = critiqued(Verdict::Unsafe);
    assert_eq!((good.check(), good.class()), (Ok(()), "harmful unsafe".into()));
    assert_eq!((critiqued(Verdict::Invalid).check(), good.id()), (Ok(()), good.collected.id()));
    let label = |verdict| Some(Label { verdict, by: "gold".into() });
    let bad = [
        (CritiquedRecord { raw: Some("x".into()), ..good.clone() }, "raw: stands beside a valid judgment"),
        (
            CritiquedRecord { raw: None, ..critiqued(Verdict::Invalid) },
            "raw: is missing from an invalid critique",
        ),
        (
            CritiquedRecord { label: label(Verdict::Invalid), ..good.clone() },
            "label.verdict: must be safe or unsafe; leave the label out where there is none",
        ),
        (CritiquedRecord { collected: answer("", 0), ..good }, "collected.prompt: is empty"),
    ];
    for (row, problem) in bad {
        assert_eq!(row.check(), Err(problem.into()));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut writer = RecordWriter::create(&dir.path().join("a.jsonl"), made_of(1)).unwrap();
    assert!(told(writer.push(&answer("", 0)), dir.path()).ends_with(": prompt: is empty"));
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(5), cases: 64, ..ProptestConfig::default() })]

    /// Wherever a crash cuts the partial file, going on gives the file of a run that was never cut.
    #[test]
    fn any_cut_is_mended(texts in prop::collection::vec(any::<String>(), 1..5), cut: prop::sample::Index) {
        let dir = tempfile::tempdir().unwrap();
        let [whole, path] = ["whole.jsonl", "a.jsonl"].map(|name| dir.path().join(name));
        let rows: Vec<_> = (0..).zip(&texts).map(|(i, text)| CollectedRecord { answer: text.clone(), ..answer("h", i) }).collect();
        let manifest = written(&whole, &rows);
        let bytes = fs::read(&whole).unwrap();

        drop(RecordWriter::<CollectedRecord>::create(&path, made_of(1)).unwrap());
        let kept = &bytes[..cut.index(bytes.len() + 1)];
        fs::write(dir.path().join("a.jsonl.part"), kept).unwrap();
        let mut writer = RecordWriter::resume(&path, made_of(1)).unwrap();
        prop_assert_eq!(writer.resumed().rows, kept.iter().filter(|&&b| b == b'\n').count());
        for row in &rows {
            writer.push(row).unwrap();
        }
        prop_assert_eq!(writer.finish().unwrap(), manifest);
        prop_assert_eq!(read_all::<CollectedRecord>(&path).unwrap().0, rows);
        prop_assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}
