//! Published policies: a model folder's files kept by content hash, so that workers fetch only what they lack.

use bytes::Bytes;
use sinternal_proto::ManifestError;
use sinternal_proto::{Chunk, ModelManifest, Policy, PolicyVersion, Sha256};
use std::collections::{HashSet, VecDeque};
use std::fs;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Policies whose files are kept: the current one, and the one that workers may still be fetching.
const KEPT: usize = 2;
/// The most that a chunk carries.
pub const CHUNK_BYTES: usize = 1 << 20;

/// A policy could not be published or read.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The model folder cannot be described.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file cannot be kept or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Of no policy that is kept.
    #[error("no published file has hash {0}; ask for the current policy")]
    Unknown(Sha256),
}

/// Files by hash; a cheap handle for readers.
#[derive(Debug, Clone)]
pub struct BlobStore {
    dir: PathBuf,
}

/// Publishes policies into one folder, which is its own.
#[derive(Debug)]
pub struct Publisher {
    blobs: BlobStore,
    kept: VecDeque<Policy>,
}

impl Publisher {
    /// Starts with an empty folder: what an earlier process published is removed.
    ///
    /// # Errors
    /// When the folder cannot be emptied or made.
    pub fn open(dir: &Path) -> Result<Self, PublishError> {
        let blobs = BlobStore { dir: dir.join("blobs") };
        if blobs.dir.exists() {
            fs::remove_dir_all(&blobs.dir).map_err(at(&blobs.dir))?;
        }
        fs::create_dir_all(&blobs.dir).map_err(at(&blobs.dir))?;
        Ok(Self { blobs, kept: VecDeque::new() })
    }

    /// For readers.
    #[must_use]
    pub fn blobs(&self) -> BlobStore {
        self.blobs.clone()
    }

    /// Keeps the files of the model folder `dir` (linked where the file system can, else copied; they must not change
    /// afterwards), and forgets those of all but the last two policies.
    ///
    /// # Errors
    /// When a file cannot be read or kept.
    pub async fn publish(&mut self, version: PolicyVersion, dir: &Path) -> Result<Policy, PublishError> {
        let (blobs, dir) = (self.blobs.clone(), dir.to_owned());
        let store = move || {
            let manifest = ModelManifest::of_folder(&dir)?;
            for file in &manifest.files {
                blobs.keep(&dir.join(&file.name), &file.sha256)?;
            }
            Ok::<_, PublishError>(manifest)
        };
        let stored = tokio::task::spawn_blocking(store).await;
        let manifest = stored.map_err(|e| at(&self.blobs.dir)(io::Error::other(e)))??;
        let policy = Policy { version, manifest };
        self.kept.push_back(policy.clone());
        self.forget_old()?;
        Ok(policy)
    }

    fn forget_old(&mut self) -> Result<(), PublishError> {
        self.kept.drain(..self.kept.len().saturating_sub(KEPT));
        let kept: HashSet<&str> =
            self.kept.iter().flat_map(|p| &p.manifest.files).map(|f| f.sha256.0.as_str()).collect();
        for entry in fs::read_dir(&self.blobs.dir).map_err(at(&self.blobs.dir))? {
            let path = entry.map_err(at(&self.blobs.dir))?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if !kept.contains(name.as_str()) {
                fs::remove_file(&path).map_err(at(&path))?;
            }
        }
        Ok(())
    }
}

impl BlobStore {
    fn keep(&self, from: &Path, hash: &Sha256) -> Result<(), PublishError> {
        let to = self.dir.join(&hash.0);
        if to.exists() || fs::hard_link(from, &to).is_ok() {
            return Ok(());
        }
        let tmp = self.dir.join(format!("{hash}.part"));
        fs::copy(from, &tmp).and_then(|_| fs::rename(&tmp, &to)).map_err(at(from))
    }

    /// Opens a file for reading in chunks from `offset` on. It stays readable when its policy is forgotten meanwhile.
    ///
    /// # Errors
    /// When no kept policy has it, or it cannot be read.
    pub async fn open(&self, hash: &Sha256, offset: u64) -> Result<BlobReader, PublishError> {
        let path = self.dir.join(&hash.0);
        let mut file = File::open(&path).await.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => PublishError::Unknown(hash.clone()),
            _ => at(&path)(source),
        })?;
        file.seek(SeekFrom::Start(offset)).await.map_err(at(&path))?;
        Ok(BlobReader { file, path, hash: hash.clone(), offset })
    }
}

/// An open file that is read in chunks.
#[derive(Debug)]
pub struct BlobReader {
    file: File,
    path: PathBuf,
    hash: Sha256,
    offset: u64,
}

impl BlobReader {
    /// The next chunk, at most [`CHUNK_BYTES`] long; `None` at the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn next(&mut self) -> Result<Option<Chunk>, PublishError> {
        let mut data = Vec::with_capacity(CHUNK_BYTES);
        let limit = CHUNK_BYTES as u64;
        (&mut self.file).take(limit).read_to_end(&mut data).await.map_err(at(&self.path))?;
        if data.is_empty() {
            return Ok(None);
        }
        let chunk = Chunk { file: self.hash.clone(), offset: self.offset, data: Bytes::from(data) };
        self.offset += chunk.data.len() as u64;
        Ok(Some(chunk))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> PublishError {
    let path = path.to_owned();
    move |source| PublishError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(dir: &Path, weights: &[u8]) -> PathBuf {
        let folder = dir.join(Sha256::of(weights).0);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.json"), "{}").unwrap();
        fs::write(folder.join("model.safetensors"), weights).unwrap();
        folder
    }

    fn blobs(dir: &Path) -> usize {
        fs::read_dir(dir.join("out/blobs")).unwrap().count()
    }

    async fn read(store: &BlobStore, hash: &Sha256, offset: u64) -> Vec<Chunk> {
        let mut reader = store.open(hash, offset).await.unwrap();
        let mut chunks = Vec::new();
        while let Some(chunk) = reader.next().await.unwrap() {
            chunks.push(chunk);
        }
        chunks
    }

    #[tokio::test]
    async fn files_of_the_last_two_policies_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut publisher = Publisher::open(&dir.path().join("out")).unwrap();
        let mut policies = Vec::new();
        for version in 0..3_u64 {
            let folder = model(dir.path(), &[version as u8; 10]);
            policies.push(publisher.publish(PolicyVersion(version), &folder).await.unwrap());
        }
        // Two weights and the configuration that all share.
        assert_eq!(blobs(dir.path()), 3);
        let weights = |p: &Policy| p.manifest.file("model.safetensors").unwrap().sha256.clone();
        let store = publisher.blobs();
        let gone = store.open(&weights(&policies[0]), 0).await.unwrap_err();
        assert!(matches!(gone, PublishError::Unknown(_)), "{gone}");
        assert_eq!(read(&store, &weights(&policies[1]), 0).await[0].data.as_ref(), [1; 10]);
        // The source folders are untouched, and the next process starts empty.
        assert!(dir.path().join(weights(&policies[0]).0).join("model.safetensors").exists());
        drop(Publisher::open(&dir.path().join("out")).unwrap());
        assert_eq!(blobs(dir.path()), 0);
    }

    #[tokio::test]
    async fn chunks_are_bounded_and_start_at_the_offset() {
        let dir = tempfile::tempdir().unwrap();
        let mut publisher = Publisher::open(&dir.path().join("out")).unwrap();
        let weights: Vec<u8> = (0..CHUNK_BYTES + 5).map(|i| (i % 251) as u8).collect();
        let policy = publisher.publish(PolicyVersion(0), &model(dir.path(), &weights)).await.unwrap();
        let hash = policy.manifest.file("model.safetensors").unwrap().sha256.clone();
        let whole = read(&publisher.blobs(), &hash, 0).await;
        assert_eq!(
            whole.iter().map(|c| (c.offset, c.data.len())).collect::<Vec<_>>(),
            [(0, 1 << 20), (1 << 20, 5)]
        );
        let tail = read(&publisher.blobs(), &hash, 1 << 20).await;
        assert_eq!(tail, whole[1..]);
        assert_eq!(read(&publisher.blobs(), &hash, weights.len() as u64).await, []);
    }
}
