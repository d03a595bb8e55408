//! `sinternal eval compare`: two results, paired by item.

use super::files::expect_empty;
use crate::jobs::print;
use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use sinternal_eval::{Comparison, Evaluation, Resampling, Suite, compare};
use sinternal_service::atomic::write_atomic;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub(crate) struct CompareArgs {
    /// Result file `SUITE.json`, or a folder of them
    first: PathBuf,
    /// The same; differences are this one minus the first
    second: PathBuf,
    /// Folder for `comparison.md` and `comparison.json`; must be empty or absent
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Root of the bootstrap's random numbers
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Machine output on stdout: one JSON object a suite
    #[arg(long)]
    json: bool,
}

type Results = BTreeMap<Suite, (PathBuf, Evaluation)>;

pub(super) fn run(args: &CompareArgs) -> anyhow::Result<()> {
    if let Some(out) = &args.out {
        expect_empty(out, "choose another folder with --out")?;
    }
    let (first, second) = (results(&args.first)?, results(&args.second)?);
    let comparisons = comparisons(args, &first, &second)?;
    for comparison in &comparisons {
        let text = if args.json { serde_json::to_string(comparison)? } else { comparison.to_terminal() };
        print(text.trim_end());
    }
    args.out.as_deref().map_or(Ok(()), |out| write(out, &comparisons))
}

fn comparisons(args: &CompareArgs, first: &Results, second: &Results) -> anyhow::Result<Vec<Comparison>> {
    let alone = |suites: &Results, other: &Results, path: &Path| {
        for suite in suites.keys().filter(|suite| !other.contains_key(suite)) {
            eprintln!("{suite} is in {} alone", path.display());
        }
    };
    let shared: Vec<_> = first.iter().filter_map(|(suite, a)| Some((a, second.get(suite)?))).collect();
    if let ([a], [b], []) = (of(first).as_slice(), of(second).as_slice(), shared.as_slice()) {
        bail!(
            "{} is of {a}, {} of {b}; compare results of one suite",
            args.first.display(),
            args.second.display()
        );
    }
    ensure!(
        !shared.is_empty(),
        "{} and {} have no suite in common",
        args.first.display(),
        args.second.display()
    );
    alone(first, second, &args.first);
    alone(second, first, &args.second);
    let how = Resampling::with_seed(args.seed);
    let pair = |((a_path, a), (b_path, b)): (&(PathBuf, Evaluation), &(PathBuf, Evaluation))| {
        compare(a, b, how).map_err(|error| anyhow!("{} and {}: {error}", a_path.display(), b_path.display()))
    };
    shared.into_iter().map(pair).collect()
}

fn of(results: &Results) -> Vec<Suite> {
    results.keys().copied().collect()
}

/// A file, or the `.json` files of a folder.
fn results(path: &Path) -> anyhow::Result<Results> {
    let mut found = Results::new();
    for file in files(path)? {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
        let result =
            Evaluation::from_json(&text).map_err(|e| anyhow!("{}: is no result: {e}", file.display()))?;
        let suite = result.about.suite;
        if let Some((earlier, _)) = found.get(&suite) {
            bail!(
                "{} and {} are both of {suite}; name the file instead of the folder",
                earlier.display(),
                file.display()
            );
        }
        found.insert(suite, (file, result));
    }
    ensure!(!found.is_empty(), "{}: holds no result file (SUITE.json)", path.display());
    Ok(found)
}

fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let about = || format!("failed to read {}", path.display());
    let entries = path.read_dir().with_context(about)?.collect::<Result<Vec<_>, _>>().with_context(about)?;
    let json = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "json");
    let mut files: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).filter(json).collect();
    files.sort_unstable();
    Ok(files)
}

fn write(out: &Path, comparisons: &[Comparison]) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("failed to create {}", out.display()))?;
    let json = serde_json::to_string_pretty(comparisons)? + "\n";
    let markdown: Vec<String> = comparisons.iter().map(Comparison::to_markdown).collect();
    write_atomic(&out.join("comparison.json"), json.as_bytes())?;
    write_atomic(&out.join("comparison.md"), markdown.join("\n").as_bytes())?;
    Ok(())
}
