//! Model folders, pinned by content.

use crate::check::{at_most, invalid, require};
use crate::{Invalid, Sha256, pb};
use bytes::Bytes;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

/// One file of a model folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ModelFile {
    /// Plain file name: no separators, no leading dot.
    pub name: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Hash of the content.
    pub sha256: Sha256,
}

/// A model folder in Hugging Face layout.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ModelManifest {
    /// Sorted by name, names unique.
    pub files: Vec<ModelFile>,
    /// SHA-256 over the lines `name sha256\n` in that order. Recomputed and compared when it comes off the wire.
    pub hash: Sha256,
}

/// A part of a file; `data` matched `sha256` when it was converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The file that it belongs to.
    pub file: Sha256,
    /// Bytes before it.
    pub offset: u64,
    /// Content.
    pub data: Bytes,
}

/// A model folder that cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A file that cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Names that a manifest cannot hold.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Endings of the files that make a model folder.
const ENDINGS: [&str; 4] = [".safetensors", ".json", ".jinja", ".txt"];
const MOST_FILES: usize = 1024;

impl ModelManifest {
    /// Sorts the files, checks their names and computes the hash.
    ///
    /// # Errors
    /// A name that is not a plain file name or that repeats; no file at all; too many.
    pub fn new(mut files: Vec<ModelFile>) -> Result<Self, Invalid> {
        at_most(files.len(), MOST_FILES, "manifest.files")?;
        require(!files.is_empty(), "manifest.files", "is empty")?;
        files.sort_by(|a, b| a.name.cmp(&b.name));
        for file in &files {
            if !plain(&file.name) {
                return Err(invalid(
                    "manifest.files.name",
                    format!("`{}` is not a plain file name", file.name),
                ));
            }
        }
        if let Some(pair) = files.windows(2).find(|w| w[0].name == w[1].name) {
            return Err(invalid("manifest.files.name", format!("`{}` is there twice", pair[0].name)));
        }
        let lines: String = files.iter().map(|f| format!("{} {}\n", f.name, f.sha256)).collect();
        Ok(Self { hash: Sha256::of(lines.as_bytes()), files })
    }

    /// Hashes the files of a model folder: safetensors, JSON, templates and vocabularies, links followed. Hidden
    /// files, folders and all others are left out.
    ///
    /// # Errors
    /// A file that cannot be read (a broken link too); a name that is not UTF-8; no file at all.
    pub fn of_folder(dir: &Path) -> Result<Self, ManifestError> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(io(dir))? {
            let path = entry.map_err(io(dir))?.path();
            if is_kept(&path) && std::fs::metadata(&path).map_err(io(&path))?.is_file() {
                files.push(ModelFile::of(&path).map_err(io(&path))?);
            }
        }
        if files.is_empty() {
            let source = Error::new(ErrorKind::NotFound, "holds no file of a model");
            return Err(io(dir)(source));
        }
        Ok(Self::new(files)?)
    }

    /// The file of this name.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&ModelFile> {
        self.files.iter().find(|f| f.name == name)
    }
}

impl ModelFile {
    fn of(path: &Path) -> std::io::Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Error::new(ErrorKind::InvalidData, "its name is not UTF-8"))?;
        let (size_bytes, sha256) = hash_file(path)?;
        Ok(Self { name: name.into(), size_bytes, sha256 })
    }
}

fn is_kept(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let of_a_model = name == "tokenizer.model" || ENDINGS.iter().any(|e| name.ends_with(e));
    of_a_model && !name.starts_with('.')
}

fn io(path: &Path) -> impl FnOnce(Error) -> ManifestError {
    move |source| ManifestError::Io { path: path.into(), source }
}

fn plain(name: &str) -> bool {
    let fits = !name.is_empty() && name.len() <= 255;
    fits && !name.starts_with('.') && !name.contains(|c: char| c.is_control() || c == '/' || c == '\\')
}

fn hash_file(path: &Path) -> std::io::Result<(u64, Sha256)> {
    use sha2::Digest;
    let mut hasher = sha2::Sha256::new();
    let size = std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok((size, Sha256(hex::encode(hasher.finalize()))))
}

impl Chunk {
    /// The hash of the content.
    #[must_use]
    pub fn hash(&self) -> Sha256 {
        Sha256::of(&self.data)
    }
}

impl From<ModelFile> for pb::ModelFile {
    fn from(f: ModelFile) -> Self {
        Self { name: f.name, size_bytes: f.size_bytes, sha256: f.sha256.0 }
    }
}

impl From<ModelManifest> for pb::ModelManifest {
    fn from(m: ModelManifest) -> Self {
        Self { files: m.files.into_iter().map(Into::into).collect(), hash: m.hash.0 }
    }
}

impl TryFrom<pb::ModelManifest> for ModelManifest {
    type Error = Invalid;

    fn try_from(m: pb::ModelManifest) -> Result<Self, Invalid> {
        let file = |f: pb::ModelFile| -> Result<ModelFile, Invalid> {
            let sha256 = Sha256::parse(&f.sha256, "manifest.files.sha256")?;
            Ok(ModelFile { name: f.name, size_bytes: f.size_bytes, sha256 })
        };
        let manifest = Self::new(m.files.into_iter().map(file).collect::<Result<_, _>>()?)?;
        require(manifest.hash.0 == m.hash, "manifest.hash", "does not match the files")?;
        Ok(manifest)
    }
}

impl From<Chunk> for pb::Chunk {
    fn from(c: Chunk) -> Self {
        let sha256 = c.hash().0;
        Self { file_sha256: c.file.0, offset: c.offset, data: c.data, sha256 }
    }
}

impl TryFrom<pb::Chunk> for Chunk {
    type Error = Invalid;

    fn try_from(c: pb::Chunk) -> Result<Self, Invalid> {
        let chunk = Self {
            file: Sha256::parse(&c.file_sha256, "chunk.file_sha256")?,
            offset: c.offset,
            data: c.data,
        };
        let end = chunk.offset.checked_add(chunk.data.len() as u64);
        require(end.is_some(), "chunk.offset", "lies beyond any file")?;
        require(
            chunk.hash().0 == c.sha256,
            "chunk.sha256",
            "does not match the data: bytes changed on the way",
        )?;
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn file(name: &str) -> ModelFile {
        ModelFile { name: name.into(), size_bytes: 3, sha256: Sha256::of(name.as_bytes()) }
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn round_trips(names in proptest::collection::btree_set("[a-z]{1,8}\\.json", 1..6), data: Vec<u8>, offset in 0..u64::MAX / 2) {
            let manifest = ModelManifest::new(names.iter().map(|n| file(n)).collect()).unwrap();
            prop_assert_eq!(ModelManifest::try_from(pb::ModelManifest::from(manifest.clone())).unwrap(), manifest);
            let chunk = Chunk { file: Sha256::of(b"f"), offset, data: data.into() };
            prop_assert_eq!(Chunk::try_from(pb::Chunk::from(chunk.clone())).unwrap(), chunk);
        }

        #[test]
        fn a_flipped_bit_is_refused(data in proptest::collection::vec(any::<u8>(), 1..64), bit: proptest::sample::Index) {
            let mut wire = pb::Chunk::from(Chunk { file: Sha256::of(b"f"), offset: 0, data: data.clone().into() });
            let bit = bit.index(data.len() * 8);
            let mut flipped = data;
            flipped[bit / 8] ^= 1 << (bit % 8);
            wire.data = flipped.into();
            prop_assert_eq!(Chunk::try_from(wire).unwrap_err().field, "chunk.sha256");
        }
    }

    #[test]
    fn names_stay_in_their_folder() {
        for name in ["", ".hidden", "a/b", "..", "a\\b", "/etc/passwd", "a\nb"] {
            assert_eq!(
                ModelManifest::new(vec![file(name)]).unwrap_err().field,
                "manifest.files.name",
                "{name}"
            );
        }
        assert!(ModelManifest::new(vec![file("a"), file("a")]).unwrap_err().problem.contains("twice"));
        assert_eq!(ModelManifest::new(Vec::new()).unwrap_err().field, "manifest.files");
    }

    #[test]
    fn malformed_chunks_and_hashes_name_their_field() {
        let good =
            pb::Chunk::from(Chunk { file: Sha256::of(b"f"), offset: 0, data: Bytes::from_static(b"x") });
        let far = pb::Chunk { offset: u64::MAX, ..good.clone() };
        assert_eq!(Chunk::try_from(far).unwrap_err().field, "chunk.offset");
        let upper = pb::Chunk { file_sha256: good.file_sha256.to_uppercase(), ..good };
        assert_eq!(Chunk::try_from(upper).unwrap_err().field, "chunk.file_sha256");
        let mut wire = pb::ModelManifest::from(ModelManifest::new(vec![file("a")]).unwrap());
        wire.files[0].sha256.pop();
        assert_eq!(ModelManifest::try_from(wire).unwrap_err().field, "manifest.files.sha256");
        let many = (0..=MOST_FILES).map(|i| file(&format!("{i}.json"))).collect();
        assert_eq!(ModelManifest::new(many).unwrap_err().field, "manifest.files");
    }

    #[test]
    fn a_changed_manifest_is_refused() {
        let mut wire = pb::ModelManifest::from(ModelManifest::new(vec![file("a"), file("b")]).unwrap());
        wire.files.swap_remove(0);
        assert_eq!(ModelManifest::try_from(wire).unwrap_err().field, "manifest.hash");
    }

    #[test]
    fn folders_are_hashed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), "abc").unwrap();
        std::fs::write(dir.path().join("notes.md"), "no").unwrap();
        let manifest = ModelManifest::of_folder(dir.path()).unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-4's example
        assert_eq!(
            manifest.files,
            [ModelFile { name: "config.json".into(), size_bytes: 3, sha256: Sha256(abc.into()) }]
        );
        std::fs::create_dir(dir.path().join("old.json")).unwrap();
        assert_eq!(ModelManifest::of_folder(dir.path()).unwrap(), manifest);
        std::os::unix::fs::symlink("gone", dir.path().join("model.safetensors")).unwrap();
        let broken = ModelManifest::of_folder(dir.path()).unwrap_err().to_string();
        assert!(broken.contains("/model.safetensors: "), "{broken}");
        let empty = ModelManifest::of_folder(&dir.path().join("old.json")).unwrap_err().to_string();
        assert!(empty.ends_with("/old.json: holds no file of a model"), "{empty}");
        let missing = ModelManifest::of_folder(&dir.path().join("x")).unwrap_err().to_string();
        assert!(missing.contains("/x: "), "{missing}");
    }
}
