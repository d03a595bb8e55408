//! The file of a server's tokens: read anew when it changes, written as a whole.

use super::{Role, TokenEntry};
use crate::atomic::{AtomicError, write_atomic};
use serde::{Deserialize, Serialize};
use sinternal_proto::Sha256;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A token that is revoked is refused after at most this.
const LOOK: Duration = Duration::from_secs(1);
const LONGEST_NAME: usize = 64;

/// A file of tokens that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// Not readable.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not what it must be.
    #[error("{path}: {problem}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Not writable.
    #[error(transparent)]
    Write(#[from] AtomicError),
    /// Two commands at once would lose a token.
    #[error("{path}: another command is changing it; try again", path = .0.display())]
    Busy(PathBuf),
}

/// What stands in the file.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(default)]
    token: Vec<TokenEntry>,
}

/// The entries of a file, in its order.
///
/// # Errors
/// A file that cannot be read or does not hold tokens; two tokens of one name.
pub fn read_tokens(path: &Path) -> Result<Vec<TokenEntry>, TokenFileError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| TokenFileError::Io { path: path.into(), source })?;
    let wrong = |problem: String| TokenFileError::Content { path: path.into(), problem };
    let content: Content =
        toml::from_str(&text).map_err(|error| wrong(error.message().replace('\n', ", ")))?;
    for (i, entry) in content.token.iter().enumerate() {
        check(entry).map_err(&wrong)?;
        if content.token[..i].iter().any(|other| other.name == entry.name) {
            return Err(wrong(format!("two tokens have the name `{}`", entry.name)));
        }
    }
    Ok(content.token)
}

/// Adds an entry; makes the file if there is none.
///
/// # Errors
/// The file cannot be read or written; the name is taken, or no name; no role.
pub fn add_token(path: &Path, entry: TokenEntry) -> Result<(), TokenFileError> {
    let wrong = |problem: String| TokenFileError::Content { path: path.into(), problem };
    check(&entry).map_err(wrong)?;
    change(path, |entries| {
        if entries.iter().any(|other| other.name == entry.name) {
            let name = &entry.name;
            return Err(wrong(format!("there is a token `{name}`; choose another name, or revoke it first")));
        }
        entries.push(entry);
        Ok(())
    })
}

/// Removes the entry of this name. Servers refuse its token within seconds.
///
/// # Errors
/// The file cannot be read or written; there is no such entry.
pub fn revoke_token(path: &Path, name: &str) -> Result<(), TokenFileError> {
    change(path, |entries| {
        let before = entries.len();
        entries.retain(|entry| entry.name != name);
        let gone = entries.len() < before;
        let problem = || format!("there is no token `{name}`; `sinternal token list` shows them");
        gone.then_some(()).ok_or_else(|| TokenFileError::Content { path: path.into(), problem: problem() })
    })
}

fn change(
    path: &Path,
    edit: impl FnOnce(&mut Vec<TokenEntry>) -> Result<(), TokenFileError>,
) -> Result<(), TokenFileError> {
    // The file itself is replaced, so it cannot be what is locked.
    let lock = path.with_added_extension("lock");
    let io = |source| TokenFileError::Io { path: lock.clone(), source };
    let held = File::create(&lock).map_err(io)?;
    held.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => TokenFileError::Busy(path.into()),
        TryLockError::Error(source) => io(source),
    })?;
    let mut entries = if path.exists() { read_tokens(path)? } else { Vec::new() };
    edit(&mut entries)?;
    let text = toml::to_string(&Content { token: entries })
        .map_err(|error| TokenFileError::Content { path: path.into(), problem: error.to_string() })?;
    Ok(write_atomic(path, text.as_bytes())?)
}

fn check(entry: &TokenEntry) -> Result<(), String> {
    let name = &entry.name;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(plain) {
        return Err(format!(
            "a name must be 1 to {LONGEST_NAME} letters, digits, `-`, `_` or `.`; one is `{name}`"
        ));
    }
    let hash = Sha256::parse(&entry.sha256.0, "sha256").map_err(|e| format!("token `{name}`: {e}"))?;
    let none = Sha256::of(b"");
    match &entry.roles[..] {
        [] => {
            Err(format!("token `{name}`: roles: must name one of {}", super::role::listed(&Role::ALL, "or")))
        }
        _ if hash == none => Err(format!("token `{name}`: sha256: is the hash of an empty text")),
        _ => Ok(()),
    }
}

/// A file that a running server looks at.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    entries: Arc<[TokenEntry]>,
    stamp: Option<Stamp>,
    looked: Instant,
}

/// Changes whenever the file does.
type Stamp = (SystemTime, u64, u64);

impl TokenFile {
    pub(super) fn open(path: &Path) -> Result<Self, TokenFileError> {
        let (stamp, entries) = (stamp(path), read_tokens(path)?.into());
        let held = Mutex::new(Held { entries, stamp, looked: Instant::now() });
        Ok(Self { path: path.into(), held })
    }

    /// The entries as the file has them. One that was spoilt is reported, and the entries from before it stay good: a slip
    /// of an editor must not stop every running job.
    pub(super) fn entries(&self, now: Instant) -> Arc<[TokenEntry]> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(held.looked) >= LOOK {
            held.looked = now;
            let stamp = stamp(&self.path);
            if stamp != held.stamp {
                held.stamp = stamp;
                match read_tokens(&self.path) {
                    Ok(entries) => {
                        tracing::info!(path = %self.path.display(), tokens = entries.len(), "read changed tokens");
                        held.entries = entries.into();
                    }
                    Err(error) => tracing::error!(%error, "the tokens from before stay good"),
                }
            }
        }
        Arc::clone(&held.entries)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let of = std::fs::metadata(path).ok()?;
    Some((of.modified().ok()?, of.len(), of.ino()))
}
