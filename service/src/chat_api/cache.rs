//! Answers on disk, one small file each, by the hash of what was asked.

use super::transport::MOST_BODY_BYTES;
use super::{ChatAnswer, ChatSetupError, Finish, Source, Usage};
use crate::atomic::{AtomicError, write_atomic};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A change of the files' form or of the key's; files of another version are asked again.
const VERSION: u32 = 1;

/// What a request is, as far as its answer depends on it: endpoint, model, sampling settings, messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CacheKey(String);

impl CacheKey {
    /// `body` holds the model, every sampling setting and the messages. The endpoint holds no secret.
    pub(super) fn of(endpoint: &str, body: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in [endpoint.as_bytes(), body] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hex::encode(hash.finalize()))
    }
}

/// How much a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheSize {
    /// Answers.
    pub answers: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    version: u32,
    key: String,
    text: String,
    finish: Finish,
    usage: Option<Usage>,
}

/// A folder of answers.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// The cache in `dir`, which is made if it is not there.
    pub(super) fn open(dir: &Path) -> Result<Self, ChatSetupError> {
        fs::create_dir_all(dir).map_err(|source| ChatSetupError::Cache { path: dir.to_owned(), source })?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The answer, if there is one. A file that cannot be used is a warning: the question is asked again.
    pub(super) fn read(&self, key: &CacheKey) -> Option<ChatAnswer> {
        let path = self.path(key);
        match read_entry(&path) {
            Ok(entry) if entry.version == VERSION && entry.key == key.0 => Some(ChatAnswer {
                text: entry.text,
                finish: entry.finish,
                usage: entry.usage,
                source: Source::Cache,
            }),
            Ok(_) => {
                tracing::warn!(path = %path.display(), "cached answer is of another version or request; asking again");
                None
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cached answer cannot be used; asking again");
                None
            }
        }
    }

    /// Keeps an answer.
    pub(super) fn write(&self, key: &CacheKey, answer: &ChatAnswer) -> Result<(), AtomicError> {
        let entry = Entry {
            version: VERSION,
            key: key.0.clone(),
            text: answer.text.clone(),
            finish: answer.finish.clone(),
            usage: answer.usage,
        };
        let json = serde_json::to_vec(&entry).expect("texts and numbers are always JSON");
        write_atomic(&self.path(key), &json)
    }

    /// Counts the files.
    pub(super) fn size(&self) -> io::Result<CacheSize> {
        let mut size = CacheSize::default();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == "json") {
                size.answers += 1;
                size.bytes += entry.metadata()?.len();
            }
        }
        Ok(size)
    }

    fn path(&self, key: &CacheKey) -> PathBuf {
        self.dir.join(format!("{}.json", key.0))
    }
}

fn read_entry(path: &Path) -> io::Result<Entry> {
    let mut bytes = Vec::new();
    // JSON may escape every byte of a text as six characters.
    File::open(path)?.take(6 * MOST_BODY_BYTES as u64).read_to_end(&mut bytes)?;
    serde_json::from_slice(&bytes).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> ChatAnswer {
        let usage = Some(Usage { input_tokens: 5, output_tokens: 2 });
        ChatAnswer { text: "judgment: safe".into(), finish: Finish::Stop, usage, source: Source::Server }
    }

    #[test]
    fn an_answer_comes_back_as_it_was_but_for_its_source() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let cache = Cache::open(&dir.path().join("new")).expect("made");
        let key = CacheKey::of("https://x/v1/chat/completions", b"{}");
        assert_eq!(cache.read(&key), None);
        cache.write(&key, &answer()).expect("writes");
        assert_eq!(cache.read(&key), Some(ChatAnswer { source: Source::Cache, ..answer() }));
        let size = cache.size().expect("readable");
        assert_eq!((size.answers, size.bytes), (1, fs::metadata(cache.path(&key)).expect("there").len()));
    }

    #[test]
    fn a_key_depends_on_every_part_and_its_border() {
        let key = CacheKey::of("ab", b"c");
        assert_ne!(key, CacheKey::of("a", b"bc"));
        assert_ne!(key, CacheKey::of("ab", b"d"));
        assert_eq!(key, CacheKey::of("ab", b"c"));
        // By sha256sum, of the lengths 2 and 1 as 8 little-endian bytes before "ab" and "c".
        assert_eq!(key.0, "43ee655579de01ca739b3f95c1c2d3f46d353b2c0df818064ea594506cdb2617");
    }

    #[test]
    fn a_file_that_is_damaged_or_of_another_request_is_not_believed() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let cache = Cache::open(dir.path()).expect("made");
        let (key, other) = (CacheKey::of("x", b"1"), CacheKey::of("x", b"2"));
        cache.write(&key, &answer()).expect("writes");
        fs::copy(cache.path(&key), cache.path(&other)).expect("copies");
        assert_eq!(cache.read(&other), None);
        let text = fs::read_to_string(cache.path(&key)).expect("there");
        for damaged in
            [text[..text.len() / 2].to_owned(), String::new(), text.replace("\"version\":1", "\"version\":0")]
        {
            fs::write(cache.path(&key), damaged).expect("writes");
            assert_eq!(cache.read(&key), None);
        }
    }
}
