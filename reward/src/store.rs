//! Received model files, by the hash of their content, and the folders made of them.
//!
//! ```text
//! DIR/files/SHA256        whole files, verified before they got this name
//! DIR/files/.part-…       files that are being received; removed at the start
//! DIR/models/HASH/NAME    hard links that make up a model folder
//! ```

use crate::RewardError;
use sha2::{Digest, Sha256 as Hasher};
use sinternal_proto::{Chunk, Invalid, ModelFile, ModelManifest, ServiceError, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A cache of model files on disk. Its calls block.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    dir: PathBuf,
    max_bytes: u64,
}

/// A model folder on its way.
#[derive(Debug)]
pub(crate) struct Receiving {
    store: Store,
    manifest: ModelManifest,
    /// Files that are not in the cache, by their hash.
    missing: BTreeMap<Sha256, Part>,
}

#[derive(Debug)]
struct Part {
    name: String,
    size: u64,
    path: PathBuf,
    file: File,
    received: u64,
    hasher: Hasher,
}

impl Store {
    /// Opens or makes the cache, which holds up to `max_bytes`, and removes what an earlier process left unfinished.
    ///
    /// # Errors
    /// A folder that cannot be made or read.
    pub(crate) fn open(dir: &Path, max_bytes: u64) -> Result<Self, RewardError> {
        let store = Self { dir: dir.into(), max_bytes };
        for folder in [store.files(), store.models()] {
            fs::create_dir_all(&folder).map_err(RewardError::io(&folder))?;
        }
        for path in entries(&store.files()).map_err(RewardError::io(store.files()))? {
            if is_part(&path) {
                fs::remove_file(&path).map_err(RewardError::io(&path))?;
            }
        }
        Ok(store)
    }

    /// Hashes of the whole files that are here.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn held(&self) -> Result<Vec<Sha256>, ServiceError> {
        let paths = entries(&self.files()).map_err(internal(&self.files()))?;
        let names = paths
            .iter()
            .filter(|path| is_ours(path) && !is_part(path))
            .filter_map(|path| path.file_name()?.to_str());
        let mut held: Vec<Sha256> = names.map(|name| Sha256(name.into())).collect();
        held.sort_unstable();
        Ok(held)
    }

    /// Begins to receive a model. A cached file that no longer has its hash is removed and must be sent again.
    ///
    /// # Errors
    /// More bytes than the cache may hold; a file that cannot be read or made.
    pub(crate) fn receive(&self, manifest: ModelManifest) -> Result<Receiving, ServiceError> {
        let bytes = manifest.files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.size_bytes));
        if bytes.is_none_or(|bytes| bytes > self.max_bytes) {
            let size = bytes.map_or("more than can be counted".into(), |bytes| bytes.to_string());
            return Err(ServiceError::Exhausted(format!(
                "model {}: its {size} bytes exceed the {} that the cache may hold",
                manifest.hash, self.max_bytes
            )));
        }
        let mut missing = BTreeMap::new();
        for file in &manifest.files {
            if !missing.contains_key(&file.sha256) && !self.has(file)? {
                missing.insert(file.sha256.clone(), self.part(file)?);
            }
        }
        Ok(Receiving { store: self.clone(), manifest, missing })
    }

    fn files(&self) -> PathBuf {
        self.dir.join("files")
    }

    fn models(&self) -> PathBuf {
        self.dir.join("models")
    }

    fn has(&self, file: &ModelFile) -> Result<bool, ServiceError> {
        let path = self.files().join(&file.sha256.0);
        if !path.exists() {
            return Ok(false);
        }
        let intact = hash_file(&path).map_err(internal(&path))? == file.sha256;
        if !intact {
            tracing::warn!(path = %path.display(), "cached file is damaged; it must be sent again");
            fs::remove_file(&path).map_err(internal(&path))?;
        }
        Ok(intact)
    }

    fn part(&self, of: &ModelFile) -> Result<Part, ServiceError> {
        let path = self.files().join(format!(".part-{}", of.sha256));
        let file = File::create(&path).map_err(internal(&path))?;
        let (name, size) = (of.name.clone(), of.size_bytes);
        Ok(Part { name, size, path, file, received: 0, hasher: Hasher::new() })
    }

    /// Removes files that `keep` does not name, oldest first, until the cache fits its bound.
    fn evict(&self, keep: &ModelManifest) -> std::io::Result<()> {
        let kept = |path: &Path| keep.files.iter().any(|f| path.ends_with(&f.sha256.0));
        let mut found: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for path in entries(&self.files())? {
            let of = fs::metadata(&path)?;
            found.push((of.modified()?, of.len(), path));
        }
        found.sort();
        let mut bytes: u64 = found.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in
            found.iter().filter(|(_, _, path)| is_ours(path) && !kept(path) && !is_part(path))
        {
            if bytes > self.max_bytes {
                fs::remove_file(path)?;
                bytes -= size;
            }
        }
        let old = |path: &&PathBuf| is_ours(path) && !path.ends_with(&keep.hash.0);
        for folder in entries(&self.models())?.iter().filter(old) {
            fs::remove_dir_all(folder)?; // links: a loaded model holds its weights in memory
        }
        Ok(())
    }
}

impl Receiving {
    /// Takes the next bytes of a file; those of one file come in order. Bytes of a file that is here are ignored.
    ///
    /// # Errors
    /// A chunk of a file that is not in the manifest, out of order, or beyond the file's size.
    pub(crate) fn write(&mut self, chunk: &Chunk) -> Result<(), ServiceError> {
        let Some(part) = self.missing.get_mut(&chunk.file) else {
            let known = self.manifest.files.iter().any(|f| f.sha256 == chunk.file);
            let problem = format!("{} is not in the manifest", chunk.file);
            return if known { Ok(()) } else { Err(Invalid { field: "chunk.file_sha256", problem }.into()) };
        };
        let end = part.received + chunk.data.len() as u64;
        if chunk.offset != part.received || end > part.size {
            return Err(ServiceError::DataLoss(format!(
                "{}: got bytes {}–{} after {} of {}",
                part.name,
                chunk.offset,
                chunk.offset + chunk.data.len() as u64,
                part.received,
                part.size
            )));
        }
        part.file.write_all(&chunk.data).map_err(internal(&part.path))?;
        part.hasher.update(&chunk.data);
        part.received = end;
        Ok(())
    }

    /// Checks every file against its hash, and gives the model's folder.
    ///
    /// # Errors
    /// Bytes that are missing or do not match their hash, by the file's name.
    pub(crate) fn finish(mut self) -> Result<PathBuf, ServiceError> {
        let mut all = Ok(());
        while let Some((hash, part)) = self.missing.pop_first() {
            all = all.and(part.keep(&hash, &self.store.files())); // what is whole need not be sent again
        }
        all?;
        let folder = self.assemble().map_err(internal(&self.store.models()))?;
        self.store.evict(&self.manifest).map_err(internal(&self.store.dir))?;
        Ok(folder)
    }

    fn assemble(&self) -> std::io::Result<PathBuf> {
        let folder = self.store.models().join(&self.manifest.hash.0);
        let new = self.store.models().join(format!(".new-{}", self.manifest.hash));
        for old in [&folder, &new].into_iter().filter(|old| old.exists()) {
            fs::remove_dir_all(old)?;
        }
        fs::create_dir(&new)?;
        for file in &self.manifest.files {
            fs::hard_link(self.store.files().join(&file.sha256.0), new.join(&file.name))?;
        }
        fs::rename(&new, &folder)?;
        Ok(folder)
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        for part in self.missing.values() {
            if let Err(error) = fs::remove_file(&part.path) {
                tracing::warn!(path = %part.path.display(), %error, "failed to remove an unfinished file");
            }
        }
    }
}

impl Part {
    /// Gives the file its name in the cache, once it is whole, verified and on disk.
    fn keep(self, hash: &Sha256, files: &Path) -> Result<(), ServiceError> {
        let Self { name, size, path, file, received, hasher } = self;
        let found = hex::encode(hasher.finalize());
        let problem = if received != size {
            Some(format!("{name}: {received} of its {size} bytes came"))
        } else if found != hash.0 {
            Some(format!("{name}: its content has SHA-256 {found}; the manifest says {hash}"))
        } else {
            None
        };
        if let Some(problem) = problem {
            fs::remove_file(&path).map_err(internal(&path))?;
            return Err(ServiceError::DataLoss(problem));
        }
        file.sync_all().and_then(|()| fs::rename(&path, files.join(&hash.0))).map_err(internal(&path))
    }
}

fn hash_file(path: &Path) -> std::io::Result<Sha256> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new();
    let mut block = vec![0u8; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(Sha256(hex::encode(hasher.finalize()))),
            n => hasher.update(&block[..n]),
        }
    }
}

fn entries(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| entry.map(|e| e.path())).collect()
}

/// Named by this program: a hash, perhaps with the mark of an unfinished write. The folder may hold other things.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let hash = name.strip_prefix(".part-").or_else(|| name.strip_prefix(".new-")).unwrap_or(&name);
    Sha256::parse(hash, "name").is_ok()
}

fn is_part(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".part-"))
}

fn internal(path: &Path) -> impl FnOnce(std::io::Error) -> ServiceError {
    let path = path.to_owned();
    move |error| ServiceError::Internal(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{chunks, manifest};

    fn model(tag: &str, bytes: usize) -> Vec<(String, Vec<u8>)> {
        let weights = tag.bytes().cycle().take(bytes).collect();
        vec![("config.json".into(), b"{}".to_vec()), ("model.safetensors".into(), weights)]
    }

    fn store(max_bytes: u64) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), max_bytes).unwrap();
        (dir, store)
    }

    fn receive(store: &Store, files: &[(String, Vec<u8>)]) -> Result<PathBuf, ServiceError> {
        let mut receiving = store.receive(manifest(files))?;
        for chunk in files.iter().flat_map(|(_, data)| chunks(data, 10)) {
            receiving.write(&chunk)?;
        }
        receiving.finish()
    }

    #[test]
    fn a_received_model_is_a_folder_and_stays_in_the_cache() {
        let (_dir, store) = store(1000);
        let files = model("ab", 25);
        let folder = receive(&store, &files).unwrap();
        assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), files[1].1);
        assert_eq!(fs::read(folder.join("config.json")).unwrap(), b"{}");
        let mut expected: Vec<Sha256> = manifest(&files).files.into_iter().map(|f| f.sha256).collect();
        expected.sort_unstable();
        assert_eq!(store.held().unwrap(), expected);
        assert!(store.receive(manifest(&files)).unwrap().missing.is_empty());
    }

    #[test]
    fn missing_flipped_and_disordered_bytes_are_refused_by_name_and_leave_nothing() {
        let (_dir, store) = store(1000);
        let files = model("ab", 25);
        let weights = chunks(&files[1].1, 10);
        let attempt = |of: &[Chunk]| -> ServiceError {
            let mut receiving = store.receive(manifest(&files)).unwrap();
            receiving.write(&chunks(b"{}", 10)[0]).unwrap();
            of.iter()
                .try_for_each(|chunk| receiving.write(chunk))
                .err()
                .unwrap_or_else(|| receiving.finish().unwrap_err())
        };
        let short = ServiceError::DataLoss("model.safetensors: 20 of its 25 bytes came".into());
        assert_eq!(attempt(&weights[..2]), short);
        let order = "model.safetensors: got bytes 20–25 after 10 of 25";
        assert_eq!(attempt(&[weights[0].clone(), weights[2].clone()]), ServiceError::DataLoss(order.into()));
        let mut flipped = weights.clone();
        flipped[1].data = b"abababaBab".to_vec().into();
        let error = attempt(&flipped);
        assert!(
            matches!(&error, ServiceError::DataLoss(m) if m.starts_with("model.safetensors: its content")),
            "{error}"
        );
        let stranger = chunks(b"stranger", 10);
        assert!(matches!(attempt(&stranger), ServiceError::Invalid(_)));
        let config = manifest(&files).files[0].sha256.clone();
        assert_eq!(store.held().unwrap(), [config]); // whole and verified: kept
        assert_eq!(entries(&store.files()).unwrap().len(), 1);
    }

    #[test]
    fn a_damaged_cached_file_is_noticed() {
        let (_dir, store) = store(1000);
        let files = model("ab", 25);
        let folder = receive(&store, &files).unwrap();
        fs::write(folder.join("model.safetensors"), b"rot").unwrap(); // the same file by a hard link
        assert_eq!(store.receive(manifest(&files)).unwrap().missing.len(), 1);
        assert_eq!(store.held().unwrap().len(), 1);
    }

    #[test]
    fn the_cache_keeps_to_its_bound() {
        let (_dir, store) = store(60);
        receive(&store, &model("ab", 30)).unwrap();
        receive(&store, &model("cd", 30)).unwrap();
        let newest = manifest(&model("cd", 30));
        assert_eq!(store.held().unwrap().len(), 2);
        assert!(newest.files.iter().all(|f| store.held().unwrap().contains(&f.sha256)));
        let error = receive(&store, &model("ef", 59)).unwrap_err();
        assert!(
            matches!(&error, ServiceError::Exhausted(m) if m.contains("its 61 bytes exceed the 60")),
            "{error}"
        );
    }

    #[test]
    fn leftovers_are_removed_when_it_opens() {
        let (dir, store) = store(1000);
        fs::write(store.files().join(".part-x"), b"half").unwrap();
        Store::open(dir.path(), 1000).unwrap();
        assert!(entries(&store.files()).unwrap().is_empty());
    }
}
