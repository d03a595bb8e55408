//! Loads the public files beside a checkout, where they are, and checks what is in them.

use sinternal_eval::{Item, Kind, Limits, LoadError, Suite, Take};
use std::path::PathBuf;

/// Beside the repository's root; `None`, said on standard error, where there is none.
fn shared_data() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: {} is not there", folder.display());
    None
}

fn count(items: &[Item], kind: Kind) -> usize {
    items.iter().filter(|i| i.kind == kind).count()
}

#[test]
fn the_published_files_are_whole() {
    let Some(folder) = shared_data() else { return };
    let load = |suite: Suite, file: &str| suite.load(&folder.join(file), &Limits::WHOLE).unwrap().items;
    let xstest = load(Suite::XsTest, "xstest/xstest_prompts.csv");
    assert_eq!((count(&xstest, Kind::Benign), count(&xstest, Kind::Harmful)), (250, 200));
    let harmful = [
        (Suite::StrongReject, "strongreject/strongreject_dataset.csv", 313),
        (Suite::HarmBench, "harmbench/harmbench_behaviors_text_all.csv", 400),
        (Suite::JailbreakBench, "jailbreakbench/jbb_behaviors_from_artifacts.csv", 100),
    ];
    for (suite, file, n) in harmful {
        let items = load(suite, file);
        assert_eq!((items.len(), count(&items, Kind::Harmful)), (n, n), "{suite}");
    }
    let contexts = load(Suite::HarmBench, "harmbench/harmbench_behaviors_text_all.csv");
    assert_eq!(contexts.iter().filter(|i| i.prompt.contains("\n\n---\n\n")).count(), 100);
    let gsm8k = load(Suite::Gsm8k, "gsm8k/test.jsonl");
    assert_eq!(count(&gsm8k, Kind::Math), 1319);
    assert!(
        gsm8k.iter().all(|i| i.gold.as_deref().is_some_and(|g| g.replace(',', "").parse::<f64>().is_ok()))
    );
}

#[test]
fn half_of_math500_needs_leave() {
    let Some(folder) = shared_data() else { return };
    let path = folder.join("math500/math500_first250.jsonl");
    let error = Suite::Math500.load(&path, &Limits::WHOLE).unwrap_err();
    assert!(matches!(error, LoadError::Count { found: 250, expected: 500, .. }), "{error}");
    assert!(error.to_string().ends_with("--allow-partial evaluates what is there"), "{error}");
    let items = Suite::Math500.load(&path, &Limits { allow_partial: true, take: Take::All }).unwrap().items;
    assert_eq!((items.len(), count(&items, Kind::Math)), (250, 250));
}
