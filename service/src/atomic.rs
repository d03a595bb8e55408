//! Files and folders that appear whole or not at all, also after a crash.
//!
//! Everything is made under a name with `.tmp-` in it beside its destination, synced, and renamed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const MARK: &str = ".tmp-";

/// A step that failed, and where.
#[derive(Debug, thiserror::Error)]
#[error("{}: failed to {step}: {source}", path.display())]
pub struct AtomicError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Replaces the file at `path` by `bytes`.
///
/// # Errors
/// The step that failed; `path` is then as it was, and no temporary file is left.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), AtomicError> {
    let tmp = beside(path);
    let written = at("write", &tmp, write_synced(&tmp, bytes)).and_then(|()| publish(&tmp, path));
    if written.is_err() {
        // The error at hand is the one to tell; a leftover is cleaned at the next start.
        drop(fs::remove_file(&tmp));
    }
    written
}

/// A folder that is being filled under a temporary name. Unless it is published it is removed again.
#[derive(Debug)]
pub struct StagedDir {
    tmp: PathBuf,
    path: PathBuf,
}

impl StagedDir {
    /// An empty temporary folder beside `path`.
    ///
    /// # Errors
    /// `path` exists, or the folder cannot be created.
    pub fn begin(path: &Path) -> Result<Self, AtomicError> {
        if path.exists() {
            at("create", path, Err::<(), _>(io::ErrorKind::AlreadyExists.into()))?;
        }
        let tmp = beside(path);
        at("create", &tmp, fs::create_dir_all(&tmp))?;
        Ok(Self { tmp, path: path.to_owned() })
    }

    /// Where it is filled.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.tmp
    }

    /// Syncs everything in it, and gives it its name.
    ///
    /// # Errors
    /// The step that failed; nothing is left then.
    pub fn publish(self) -> Result<(), AtomicError> {
        sync_tree(&self.tmp)?;
        publish(&self.tmp, &self.path)
    }
}

impl Drop for StagedDir {
    fn drop(&mut self) {
        // Published, it is no longer there. What cannot be removed is cleaned at the next start.
        drop(fs::remove_dir_all(&self.tmp));
    }
}

/// Makes a folder by letting `build` fill a temporary one, which is then synced and renamed to `path`.
///
/// # Errors
/// `path` exists, a step failed, or `build` did; `path` then does not exist, and nothing is left.
pub fn write_dir_atomic<E: From<AtomicError>>(
    path: &Path,
    build: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let staged = StagedDir::begin(path)?;
    build(staged.dir())?;
    Ok(staged.publish()?)
}

/// Removes a folder so that it never looks like a whole one with files missing.
///
/// # Errors
/// It cannot be renamed or removed.
pub fn remove_dir_atomic(path: &Path) -> Result<(), AtomicError> {
    let tmp = beside(path);
    at("rename", path, fs::rename(path, &tmp))?;
    at("remove", &tmp, fs::remove_dir_all(&tmp))
}

/// Removes what a crash left of unfinished writes directly in `dir`, and tells what it was. Only for the
/// one process that writes there, before it does.
///
/// # Errors
/// The folder cannot be read, or a leftover not removed.
pub fn clean_leftovers(dir: &Path) -> Result<Vec<PathBuf>, AtomicError> {
    let mut removed = Vec::new();
    for entry in at("read", dir, fs::read_dir(dir))? {
        let path = at("read", dir, entry)?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().contains(MARK)) {
            let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            at("remove", &path, gone)?;
            removed.push(path);
        }
    }
    removed.sort();
    Ok(removed)
}

/// A name that no other write of any process uses.
fn beside(path: &Path) -> PathBuf {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let count = WRITES.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!("{name}{MARK}{}-{count}", std::process::id()))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Renames a file that is written and synced to `path` in the same folder, and syncs the folder.
///
/// # Errors
/// The step that failed.
pub fn publish(tmp: &Path, path: &Path) -> Result<(), AtomicError> {
    at("rename its temporary to", path, fs::rename(tmp, path))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync(parent)
}

fn sync_tree(dir: &Path) -> Result<(), AtomicError> {
    for entry in at("read", dir, fs::read_dir(dir))? {
        let path = at("read", dir, entry)?.path();
        if path.is_dir() { sync_tree(&path)? } else { sync(&path)? }
    }
    sync(dir)
}

fn sync(path: &Path) -> Result<(), AtomicError> {
    at("sync", path, File::open(path).and_then(|file| file.sync_all()))
}

fn at<T>(step: &'static str, path: &Path, result: io::Result<T>) -> Result<T, AtomicError> {
    result.map_err(|source| AtomicError { step, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("readable");
        let mut names: Vec<_> =
            entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_nothing_is_left() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("state.json");
        write_atomic(&path, b"one").expect("first");
        write_atomic(&path, b"two").expect("second");
        assert_eq!(fs::read(&path).expect("there"), b"two");
        assert_eq!(names(dir.path()), ["state.json"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_state_and_names_the_path() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("taken");
        fs::create_dir(&path).expect("folder");
        let error = write_atomic(&path, b"x").expect_err("a folder is in the way").to_string();
        assert!(
            error.starts_with(&format!("{}: failed to rename its temporary to: ", path.display())),
            "{error}"
        );
        assert_eq!(names(dir.path()), ["taken"]);
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("step-3");
        let half = |tmp: &Path| {
            write_atomic(&tmp.join("weights"), b"w")?;
            assert!(!path.exists());
            write_atomic(&tmp.join("no/such/folder"), b"c")
        };
        write_dir_atomic(&path, half).expect_err("the second file fails");
        assert_eq!(names(dir.path()), [""; 0]);

        write_dir_atomic(&path, |tmp| write_atomic(&tmp.join("weights"), b"w")).expect("whole");
        assert_eq!((names(dir.path()), names(&path)), (vec!["step-3".into()], vec!["weights".into()]));
        let again = write_dir_atomic(&path, |_| Ok::<_, AtomicError>(())).expect_err("exists");
        assert_eq!(again.to_string(), format!("{}: failed to create: entity already exists", path.display()));
    }

    #[test]
    fn a_folder_goes_as_a_whole() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("step-3");
        fs::create_dir_all(path.join("inner")).expect("folder");
        fs::write(path.join("inner/weights"), "w").expect("file");
        remove_dir_atomic(&path).expect("removes");
        assert_eq!(names(dir.path()), [""; 0]);
        let gone = remove_dir_atomic(&path).expect_err("there is none").to_string();
        assert!(gone.starts_with(&format!("{}: failed to rename: ", path.display())), "{gone}");
    }

    #[test]
    fn leftovers_of_a_crash_are_cleaned_and_named() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("step-3.tmp-99-0/inner")).expect("folder");
        fs::write(at("state.json.tmp-99-1"), "half").expect("file");
        fs::write(at("state.json"), "whole").expect("file");
        let removed = clean_leftovers(dir.path()).expect("cleans");
        assert_eq!(removed, [at("state.json.tmp-99-1"), at("step-3.tmp-99-0")]);
        assert_eq!(names(dir.path()), ["state.json"]);
    }
}
