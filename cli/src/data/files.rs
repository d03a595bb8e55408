//! What the commands read beside their rows, where they write, and what they tell of it.

use crate::interrupt::Whole;
use crate::jobs::print;
use anyhow::{Context, anyhow};
use clap::Args;
use sinternal_trainer::records::Manifest;
use sinternal_trainer::spec::DataSections;
use std::path::{Path, PathBuf};

/// Where a command writes, and how it tells of it.
#[derive(Args)]
pub(super) struct OutArgs {
    /// Folder for the file and its manifest; several stages may share one
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Machine output on stdout
    #[arg(long)]
    pub(super) json: bool,
}

impl OutArgs {
    /// The folder's file of this name; the folder is made.
    pub(super) fn file(&self, name: &str) -> anyhow::Result<PathBuf> {
        let made = std::fs::create_dir_all(&self.out);
        made.with_context(|| format!("failed to create {}", self.out.display()))?;
        Ok(self.out.join(name))
    }

    /// Listens for Ctrl-C, which ends the command between two rows.
    pub(super) fn listen(&self) -> anyhow::Result<Whole> {
        let out = self.out.display();
        Whole::listen(format!("interrupted; the same command goes on with what is in {out}"))
    }

    /// Tells what a file holds, as its manifest has it.
    pub(super) fn tell(&self, path: &Path, manifest: &Manifest) -> anyhow::Result<()> {
        if self.json {
            print(&serde_json::to_string(manifest)?);
            return Ok(());
        }
        let counts: Vec<String> = manifest.counts.iter().map(|(class, n)| format!("{n} {class}")).collect();
        print(&format!("{}: {} {}: {}", path.display(), manifest.rows, manifest.stage, counts.join(", ")));
        Ok(())
    }
}

/// Reads a file with a job's sections `[critique]`, `[guard]`, `[curate]` and `[decontaminate]`.
pub(super) fn sections(path: Option<&Path>) -> anyhow::Result<DataSections> {
    let Some(path) = path else { return Ok(DataSections::default()) };
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    let base = path.parent().unwrap_or(Path::new("."));
    DataSections::parse(&text, &path.display().to_string(), base).map_err(|e| anyhow!(e))
}
