//! Fetching a policy's files: by hash, in hashed chunks, checked as a whole, kept by hash.

use crate::WorkerError;
use sha2::Digest;
use sinternal_proto::pb::rollout_service_client::RolloutServiceClient;
use sinternal_proto::{Chunk, ModelFile, Policy, Sha256, WorkerId, pb};
use sinternal_service::connect::Channel;
use sinternal_service::connect::{Peer, RpcError, call, with_deadline};
use sinternal_service::metrics;
use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Fetches of one file before the worker gives up on it.
const ATTEMPTS: u32 = 5;

/// Workers that may share one configured folder.
const SLOTS: u32 = 1024;
/// What the names of policies' folders begin with.
const POLICY: &str = "policy-";

/// The cache of policy files: `<dir>/files/<sha256>`, and one folder of links a policy.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    /// Held for as long as this process uses the folder; the system lets go of it however the process ends.
    _lock: File,
}

/// Whom to fetch from.
pub(crate) struct Source {
    pub(crate) peer: Peer,
    pub(crate) client: RolloutServiceClient<Channel>,
    pub(crate) worker: WorkerId,
    /// Of one chunk.
    pub(crate) deadline: Duration,
}

impl Cache {
    /// Takes the first folder of `parent/1`, `parent/2` … that no other worker uses.
    pub(crate) fn open(parent: &Path) -> Result<Self, WorkerError> {
        for slot in 1..=SLOTS {
            let dir = parent.join(slot.to_string());
            fs::create_dir_all(&dir).map_err(at(&dir))?;
            let path = dir.join(".lock");
            let lock = File::create(&path).map_err(at(&path))?;
            match lock.try_lock() {
                Ok(()) => {
                    let cache = Self { dir, _lock: lock };
                    fs::create_dir_all(cache.files()).map_err(at(&cache.files()))?;
                    return Ok(cache);
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(at(&path)(source)),
            }
        }
        let source = std::io::Error::other(format!("all {SLOTS} folders are used by other workers"));
        Err(at(parent)(source))
    }

    fn files(&self) -> PathBuf {
        self.dir.join("files")
    }

    fn file(&self, hash: &Sha256) -> PathBuf {
        self.files().join(&hash.0)
    }

    /// Makes the policy's folder complete and returns it. Files of neither this nor the `keep` policy go.
    pub(crate) async fn fetch(
        &self,
        policy: &Policy,
        keep: Option<&Policy>,
        source: &mut Source,
    ) -> Result<PathBuf, WorkerError> {
        let started = Instant::now();
        for file in &policy.manifest.files {
            if !self.file(&file.sha256).exists() {
                self.fetch_file(file, source).await?;
            }
        }
        let folder = self.link(policy)?;
        self.sweep(policy, keep)?;
        metrics::weight_sync_seconds().record(started.elapsed().as_secs_f64());
        Ok(folder)
    }

    /// Fetches one file; a chunk or a whole that does not match its hash is thrown away and fetched again.
    async fn fetch_file(&self, file: &ModelFile, source: &mut Source) -> Result<(), WorkerError> {
        for attempt in 1..=ATTEMPTS {
            match self.attempt(file, source).await {
                Ok(()) => return Ok(()),
                Err(Failed::Corrupt(problem)) => {
                    metrics::weight_sync_failures_total().increment(1);
                    tracing::warn!(
                        file = file.name,
                        attempt,
                        problem,
                        "refused corrupt weights; fetching again"
                    );
                }
                Err(Failed::Other(error)) => {
                    metrics::weight_sync_failures_total().increment(1);
                    return Err(error);
                }
            }
        }
        Err(WorkerError::Corrupt { name: file.name.clone(), attempts: ATTEMPTS })
    }

    async fn attempt(&self, file: &ModelFile, source: &mut Source) -> Result<(), Failed> {
        let request = pb::FetchFileRequest {
            worker_id: source.worker.0.clone(),
            sha256: file.sha256.0.clone(),
            offset: 0,
        };
        let (peer, deadline) = (source.peer.clone(), source.deadline);
        let mut chunks = call(&peer, "fetch file", deadline, source.client.fetch_file(request)).await?;
        let partial = self.files().join(format!("{}.partial", file.sha256));
        let mut out = File::create(&partial).map_err(at(&partial))?;
        let (mut hasher, mut size) = (sha2::Sha256::new(), 0);
        loop {
            let next = with_deadline(&peer, "fetch file", deadline, chunks.message()).await?;
            let Some(chunk) = next.map_err(|status| RpcError::Status {
                peer: peer.clone(),
                what: "fetch file",
                status: Box::new(status),
            })?
            else {
                break;
            };
            let chunk = Chunk::try_from(chunk).map_err(|e| Failed::Corrupt(e.to_string()))?;
            if chunk.file != file.sha256 || chunk.offset != size {
                return Err(Failed::Corrupt(format!("chunk at {} where {size} was due", chunk.offset)));
            }
            hasher.update(&chunk.data);
            out.write_all(&chunk.data).map_err(at(&partial))?;
            size += chunk.data.len() as u64;
            if size > file.size_bytes {
                return Err(Failed::Corrupt(format!("more than the {} bytes announced", file.size_bytes)));
            }
        }
        metrics::weight_sync_bytes_total().increment(size);
        if hex::encode(hasher.finalize()) != file.sha256.0 {
            return Err(Failed::Corrupt("the whole file does not match its hash".into()));
        }
        out.sync_all().map_err(at(&partial))?;
        let to = self.file(&file.sha256);
        fs::rename(&partial, &to).map_err(at(&to))?;
        Ok(())
    }

    /// A folder with the manifest's names, as hard links.
    fn link(&self, policy: &Policy) -> Result<PathBuf, WorkerError> {
        let folder = self.folder(policy);
        if folder.exists() {
            return Ok(folder);
        }
        let partial = folder.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(at(&partial))?;
        }
        fs::create_dir_all(&partial).map_err(at(&partial))?;
        for file in &policy.manifest.files {
            let to = partial.join(&file.name);
            fs::hard_link(self.file(&file.sha256), &to).map_err(at(&to))?;
        }
        fs::rename(&partial, &folder).map_err(at(&folder))?;
        Ok(folder)
    }

    fn folder(&self, policy: &Policy) -> PathBuf {
        self.dir.join(format!("{POLICY}{}", policy.manifest.hash))
    }

    /// Removes what belongs to neither policy.
    fn sweep(&self, policy: &Policy, keep: Option<&Policy>) -> Result<(), WorkerError> {
        let kept: Vec<&Policy> = [Some(policy), keep].into_iter().flatten().collect();
        let folders: HashSet<PathBuf> = kept.iter().map(|p| self.folder(p)).collect();
        let files: HashSet<PathBuf> =
            kept.iter().flat_map(|p| p.manifest.files.iter().map(|f| self.file(&f.sha256))).collect();
        for entry in fs::read_dir(&self.dir).map_err(at(&self.dir))? {
            let path = entry.map_err(at(&self.dir))?.path();
            // The folder may hold what is not ours.
            let ours = name(&path).strip_prefix(POLICY).is_some_and(is_hash);
            if ours && !folders.contains(&path) {
                fs::remove_dir_all(&path).map_err(at(&path))?;
            }
        }
        for entry in fs::read_dir(self.files()).map_err(at(&self.files()))? {
            let path = entry.map_err(at(&self.files()))?.path();
            if is_hash(&name(&path)) && !files.contains(&path) {
                fs::remove_file(&path).map_err(at(&path))?;
            }
        }
        Ok(())
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Names that this program gives: a hash, perhaps with the mark of an unfinished write.
fn is_hash(name: &str) -> bool {
    Sha256::parse(name.strip_suffix(".partial").unwrap_or(name), "name").is_ok()
}

enum Failed {
    Corrupt(String),
    Other(WorkerError),
}

impl<E: Into<WorkerError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> WorkerError {
    let path = path.to_owned();
    move |source| WorkerError::Cache { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinternal_proto::{ModelManifest, PolicyVersion};

    fn policy(version: u64, weights: &[u8]) -> Policy {
        let file = |name: &str, data: &[u8]| ModelFile {
            name: name.into(),
            size_bytes: data.len() as u64,
            sha256: Sha256::of(data),
        };
        let files = vec![file("config.json", b"{}"), file("model.safetensors", weights)];
        Policy { version: PolicyVersion(version), manifest: ModelManifest::new(files).unwrap() }
    }

    /// As if fetched.
    fn keep(cache: &Cache, policy: &Policy, weights: &[u8]) -> PathBuf {
        for data in [&b"{}"[..], weights] {
            fs::write(cache.file(&Sha256::of(data)), data).unwrap();
        }
        cache.link(policy).unwrap()
    }

    #[test]
    fn workers_take_folders_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (Cache::open(dir.path()).unwrap(), Cache::open(dir.path()).unwrap());
        assert_eq!((first.dir.clone(), second.dir.clone()), (dir.path().join("1"), dir.path().join("2")));
        drop(first);
        assert_eq!(Cache::open(dir.path()).unwrap().dir, dir.path().join("1"));
    }

    #[test]
    fn only_old_policies_go_and_what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let policies = [policy(1, b"w1"), policy(2, b"w2"), policy(3, b"w3")];
        let folders: Vec<PathBuf> =
            policies.iter().zip([b"w1", b"w2", b"w3"]).map(|(p, w)| keep(&cache, p, w)).collect();
        for foreign in ["thesis", "policy-draft", "files/notes.txt"] {
            fs::create_dir_all(cache.dir.join(foreign)).unwrap();
        }
        cache.sweep(&policies[2], Some(&policies[1])).unwrap();
        assert_eq!(folders.iter().map(|f| f.exists()).collect::<Vec<_>>(), [false, true, true]);
        assert!(!cache.file(&Sha256::of(b"w1")).exists() && cache.file(&Sha256::of(b"w2")).exists());
        for foreign in ["thesis", "policy-draft", "files/notes.txt"] {
            assert!(cache.dir.join(foreign).exists(), "{foreign}");
        }
    }
}
