//! Reads a suite's file, checks that it is whole, and selects what is evaluated.

use super::draw::{self, Take};
use super::error::LoadError;
use super::item::{Item, Kind};
use super::row::RowError;
use super::table::{self, Format};
use super::{Suite, layout};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

/// Harmful rows of WildJailbreak that are evaluated, as in the paper that this project reproduces (arXiv 2605.08930).
pub const WILDJAILBREAK_HARMFUL: usize = 250;

/// The seed that draws them, fixed so that every evaluation has the same.
pub const WILDJAILBREAK_SEED: u64 = 250;

/// The largest file that is read; WildJailbreak's training file, the largest there is, has about half of it.
const MOST_BYTES: u64 = 1 << 30;

/// What is wanted of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Whether a file with more or fewer rows than published is evaluated (`--allow-partial`).
    pub allow_partial: bool,
    /// Which of the items.
    pub take: Take,
}

impl Limits {
    /// The whole suite, and nothing but the whole.
    pub const WHOLE: Self = Self { allow_partial: false, take: Take::All };
}

/// A suite as it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSet {
    /// Which.
    pub suite: Suite,
    /// SHA-256 of the file's bytes, hexadecimal.
    pub sha256: String,
    /// Rows of the file.
    pub rows: usize,
    /// What is evaluated, in the file's order.
    pub items: Vec<Item>,
}

impl Suite {
    /// Loads the suite from the file that its authors publish, whatever of the accepted formats it is in.
    ///
    /// # Errors
    /// See [`LoadError`]: the file is missing (with where to obtain it), malformed, or has another number of rows.
    pub fn load(self, path: &Path, limits: &Limits) -> Result<DataSet, LoadError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => LoadError::Missing { path: path.into(), suite: self },
            _ => LoadError::Read { path: path.into(), source },
        };
        let bytes = fs::metadata(path).map_err(failed)?.len();
        if bytes > MOST_BYTES {
            return Err(LoadError::TooLarge { path: path.into(), bytes, most: MOST_BYTES });
        }
        self.parse(path, &fs::read(path).map_err(failed)?, limits)
    }

    /// [`Suite::load`] of bytes already read; `path` says the format and names the file in errors.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn parse(self, path: &Path, bytes: &[u8], limits: &Limits) -> Result<DataSet, LoadError> {
        let format = Format::of(path).ok_or_else(|| LoadError::Format { path: path.into() })?;
        let mut items = Vec::new();
        let rows = table::read(bytes, format, &mut |row| {
            items.extend(layout::items(self, &row)?.into_iter().map(|item| (row.number, item)));
            Ok(())
        })
        .map_err(|error| located(path, error))?;
        let items = distinct(items).map_err(|error| located(path, error))?;
        if items.is_empty() {
            return Err(LoadError::Empty { path: path.into(), suite: self });
        }
        if !limits.allow_partial {
            self.check_counts(path, rows, &items)?;
        }
        let items = draw::take(self.drawn(items), limits.take);
        Ok(DataSet { suite: self, sha256: hex::encode(Sha256::digest(bytes)), rows, items })
    }

    fn check_counts(self, path: &Path, rows: usize, items: &[Item]) -> Result<(), LoadError> {
        let of = |kind| items.iter().filter(|i| i.kind == kind).count();
        let check = |what, found, expected: usize| {
            let right = found == expected;
            let error = || LoadError::Count { path: path.into(), suite: self, what, found, expected };
            right.then_some(()).ok_or_else(error)
        };
        if let Some(expected) = self.rows() {
            check("rows", rows, expected)?;
        }
        match self {
            Self::XsTest => check("safe rows", of(Kind::Benign), 250),
            Self::WildJailbreak => check(
                "adversarial_harmful rows to draw from",
                of(Kind::Harmful).min(WILDJAILBREAK_HARMFUL),
                WILDJAILBREAK_HARMFUL,
            ),
            _ => Ok(()),
        }
    }

    /// The suite's own selection: of WildJailbreak's harmful rows a fixed draw.
    fn drawn(self, items: Vec<Item>) -> Vec<Item> {
        if self != Self::WildJailbreak {
            return items;
        }
        let (harmful, mut kept): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(|i| i.kind == Kind::Harmful);
        let fixed = Take::Sample { n: WILDJAILBREAK_HARMFUL, seed: WILDJAILBREAK_SEED };
        kept.splice(0..0, draw::take(harmful, fixed));
        kept
    }
}

fn located(path: &Path, error: RowError) -> LoadError {
    match error {
        RowError::File(reason) => LoadError::File { path: path.into(), reason },
        RowError::Row(row, reason) => LoadError::Row { path: path.into(), row, reason },
    }
}

/// # Errors
/// When two items have one id; the error is at the second's row.
fn distinct(items: Vec<(usize, Item)>) -> Result<Vec<Item>, RowError> {
    let mut first: HashMap<String, usize> = HashMap::with_capacity(items.len());
    for (row, item) in &items {
        if let Some(earlier) = first.insert(item.id.clone(), *row) {
            return Err(RowError::Row(*row, format!("has the id `{}` of row {earlier}", item.id)));
        }
    }
    Ok(items.into_iter().map(|(_, item)| item).collect())
}

#[cfg(test)]
mod tests;
