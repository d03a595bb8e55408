//! Reading and writing safetensors, strictly, one tensor in memory at a time.

use crate::ModelError;
use crate::parameters::Parameters;
use safetensors::tensor::{Dtype, Metadata, View};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor, no_grad};

/// The weights of a model in one file.
pub(crate) const WEIGHTS: &str = "model.safetensors";
/// The format's own bound on headers, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// Headers of a folder's safetensors files; the data stays on disk until [`Checkpoint::read`].
pub(crate) struct Checkpoint {
    dir: PathBuf,
    tensors: BTreeMap<String, Entry>,
}

struct Entry {
    path: PathBuf,
    offset: u64,
    bytes: usize,
    kind: Kind,
    shape: Vec<i64>,
}

impl Checkpoint {
    /// Reads the headers of `model.safetensors`, or of all files of `model.safetensors.index.json`.
    pub(crate) fn open(dir: &Path) -> Result<Self, ModelError> {
        let mut tensors = BTreeMap::new();
        for path in files(dir)? {
            for (name, entry) in header(&path)? {
                if let Some(other) = tensors.insert(name.clone(), entry) {
                    let problem = format!("tensor `{name}` is also in {}", other.path.display());
                    return Err(ModelError::file(&path, problem));
                }
            }
        }
        Ok(Self { dir: dir.into(), tensors })
    }

    /// Reads the header of one file.
    pub(crate) fn open_file(path: &Path) -> Result<Self, ModelError> {
        let dir = path.parent().unwrap_or(Path::new(".")).into();
        Ok(Self { dir, tensors: header(path)?.into_iter().collect() })
    }

    /// Compares names and shapes, before any memory is taken for data.
    pub(crate) fn check(&self, expected: &[(String, Vec<i64>)]) -> Result<(), ModelError> {
        for (name, shape) in expected {
            match self.tensors.get(name) {
                None => return Err(ModelError::file(&self.dir, format!("tensor `{name}` is missing"))),
                Some(e) if &e.shape != shape => {
                    let problem =
                        format!("tensor `{name}` has shape {:?}; config.json asks for {shape:?}", e.shape);
                    return Err(ModelError::file(&e.path, problem));
                }
                Some(_) => {}
            }
        }
        let known: BTreeSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
        let extra =
            self.tensors.iter().find(|(name, _)| !known.contains(name.as_str()) && !is_redundant(name));
        match extra {
            Some((name, e)) => Err(ModelError::file(
                &e.path,
                format!("tensor `{name}` does not belong to this architecture"),
            )),
            None => Ok(()),
        }
    }

    /// Fills parameters with their values, cast to their type. Names and shapes were compared by [`Checkpoint::check`].
    pub(crate) fn fill(&self, parameters: &Parameters) -> Result<(), ModelError> {
        for (name, mut view) in parameters.views() {
            let value = self.read(name)?;
            no_grad(|| view.copy_(&value));
        }
        Ok(())
    }

    /// One tensor, in the file's own type, on the CPU. Every element must be finite.
    pub(crate) fn read(&self, name: &str) -> Result<Tensor, ModelError> {
        let entry = self
            .tensors
            .get(name)
            .ok_or_else(|| ModelError::file(&self.dir, format!("tensor `{name}` is missing")))?;
        let mut data = vec![0u8; entry.bytes];
        let file = File::open(&entry.path).map_err(ModelError::io(&entry.path))?;
        file.read_exact_at(&mut data, entry.offset).map_err(ModelError::io(&entry.path))?;
        let tensor = Tensor::f_from_data_size(&data, &entry.shape, entry.kind)?;
        if tensor.isfinite().all().int64_value(&[]) == 0 {
            return Err(ModelError::file(
                &entry.path,
                format!("tensor `{name}` holds a value that is not finite"),
            ));
        }
        Ok(tensor)
    }
}

/// Some writers store the tied head again, though it is the embedding; old Llama files have the rope's frequencies, which
/// config.json tells.
fn is_redundant(name: &str) -> bool {
    name == "lm_head.weight" || name.ends_with(".rotary_emb.inv_freq")
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let single = dir.join(WEIGHTS);
    if single.exists() {
        return Ok(vec![single]);
    }
    let index = dir.join("model.safetensors.index.json");
    if !index.exists() {
        return Err(ModelError::file(
            dir,
            "holds neither model.safetensors nor model.safetensors.index.json",
        ));
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(&index).map_err(ModelError::io(&index))?;
    let parsed: Index = serde_json::from_str(&text).map_err(|e| ModelError::file(&index, e.to_string()))?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if let Some(bad) = names.iter().find(|n| n.contains('/') || n.contains('\\')) {
        return Err(ModelError::file(&index, format!("file name `{bad}` leaves the folder")));
    }
    Ok(names.into_iter().map(|n| dir.join(n)).collect())
}

fn header(path: &Path) -> Result<Vec<(String, Entry)>, ModelError> {
    let bad = |problem: String| ModelError::file(path, problem);
    let file = File::open(path).map_err(ModelError::io(path))?;
    let size = file.metadata().map_err(ModelError::io(path))?.len();
    let mut prefix = [0u8; 8];
    file.read_exact_at(&mut prefix, 0).map_err(|_| bad("is too short for a safetensors file".into()))?;
    let length = u64::from_le_bytes(prefix);
    if length > size.saturating_sub(8) {
        return Err(bad(format!("truncated: the header says {length} bytes, the file has {size}")));
    }
    if length > MAX_HEADER {
        return Err(bad(format!("its header of {length} bytes exceeds the format's bound of {MAX_HEADER}")));
    }
    let mut buffer = vec![0u8; length as usize];
    file.read_exact_at(&mut buffer, 8).map_err(ModelError::io(path))?;
    let metadata: Metadata =
        serde_json::from_slice(&buffer).map_err(|e| bad(format!("not a safetensors header: {e}")))?;
    let start = 8 + length;
    let end = start + metadata.data_len() as u64;
    if size != end {
        return Err(bad(format!(
            "truncated or padded: the header describes {end} bytes, the file has {size}"
        )));
    }
    entries(path, &metadata, start)
}

fn entries(path: &Path, metadata: &Metadata, start: u64) -> Result<Vec<(String, Entry)>, ModelError> {
    metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let kind = kind_of(info.dtype).ok_or_else(|| {
                ModelError::file(
                    path,
                    format!("tensor `{name}` has type {:?}; supported: F32, BF16, F16", info.dtype),
                )
            })?;
            let (from, to) = info.data_offsets;
            let shape = info.shape.iter().map(|&n| n as i64).collect();
            let entry =
                Entry { path: path.into(), offset: start + from as u64, bytes: to - from, kind, shape };
            Ok((name, entry))
        })
        .collect()
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F16 => Some(Kind::Half),
        _ => None,
    }
}

/// What is written for a tensor of this name.
pub(crate) type Value<'a> = dyn Fn(&str, &Tensor) -> Tensor + 'a;

/// The tensor itself.
pub(crate) fn as_it_is(_: &str, tensor: &Tensor) -> Tensor {
    tensor.shallow_clone()
}

/// Writes a file; values are computed and brought to the CPU one at a time.
pub(crate) fn save<'a>(
    dir: &Path,
    name: &str,
    tensors: impl Iterator<Item = (&'a str, Tensor)>,
    kind: Kind,
    value: &Value<'_>,
) -> Result<(), ModelError> {
    let path = dir.join(name);
    let dtype = match kind {
        Kind::BFloat16 => Dtype::BF16,
        Kind::Half => Dtype::F16,
        _ => Dtype::F32,
    };
    let views = tensors.map(|(name, tensor)| {
        let shape = tensor.size().iter().map(|&n| n as usize).collect();
        (name.to_owned(), Lazy { name, tensor, dtype, shape, value })
    });
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    safetensors::serialize_to_file(views, metadata, &path)
        .map_err(|e| ModelError::file(&path, e.to_string()))?;
    // The library leaves a file that its owner alone can read.
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).map_err(ModelError::io(&path))
}

struct Lazy<'a> {
    name: &'a str,
    tensor: Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
    value: &'a Value<'a>,
}

impl View for Lazy<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let kind = kind_of(self.dtype).expect("one of the three written above");
        let value = no_grad(|| (self.value)(self.name, &self.tensor));
        let tensor = value.detach().to_device(tch::Device::Cpu).to_kind(kind).contiguous();
        let mut bytes = vec![0u8; self.data_len()];
        let elements = tensor.numel();
        tensor.copy_data_u8(&mut bytes, elements);
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> (tempfile::TempDir, Vec<(String, Vec<i64>)>) {
        let dir = tempfile::tempdir().unwrap();
        let tensor = Tensor::from_slice(&[1.5f32, -2.0, 3.25, 0.0]).view([2, 2]);
        save(dir.path(), WEIGHTS, [("a", tensor)].into_iter(), Kind::BFloat16, &as_it_is).unwrap();
        (dir, vec![("a".into(), vec![2, 2])])
    }

    #[test]
    fn round_trip_in_bfloat16() {
        let (dir, expected) = written();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        checkpoint.check(&expected).unwrap();
        let values = checkpoint.read("a").unwrap().to_kind(Kind::Float).view(-1);
        assert_eq!(Vec::<f32>::try_from(values).unwrap(), [1.5, -2.0, 3.25, 0.0]);
    }

    #[test]
    fn names_what_is_wrong() {
        let (dir, expected) = written();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let error = |e: &[(String, Vec<i64>)]| checkpoint.check(e).unwrap_err().to_string();
        assert!(error(&[("b".into(), vec![1])]).contains("tensor `b` is missing"));
        assert!(
            error(&[("a".into(), vec![4])]).contains("tensor `a` has shape [2, 2]; config.json asks for [4]")
        );
        assert!(error(&[]).contains("tensor `a` does not belong"));
        assert!(is_redundant("model.layers.0.self_attn.rotary_emb.inv_freq"));

        let path = dir.path().join("model.safetensors");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let cut = Checkpoint::open(dir.path()).err().unwrap().to_string();
        assert!(cut.contains("model.safetensors") && cut.contains("truncated"), "{cut}");
        std::fs::write(&path, &whole[..5]).unwrap();
        assert!(Checkpoint::open(dir.path()).err().unwrap().to_string().contains("too short"));
        std::fs::remove_file(&path).unwrap();
        assert!(Checkpoint::open(dir.path()).err().unwrap().to_string().contains("holds neither"));

        save(
            dir.path(),
            WEIGHTS,
            [("a", Tensor::from_slice(&[f32::NAN]))].into_iter(),
            Kind::Float,
            &as_it_is,
        )
        .unwrap();
        let nan = Checkpoint::open(dir.path()).unwrap().read("a").unwrap_err().to_string();
        assert!(nan.contains("tensor `a` holds a value that is not finite"), "{nan}");
        assert!(expected.len() == 1);
    }

    mod foreign {
        use super::*;
        use proptest::prelude::*;
        use proptest::sample::Index;
        use proptest::test_runner::RngSeed;

        /// Opens a file of these bytes and reads all that it claims to hold.
        fn read_all(bytes: &[u8]) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(WEIGHTS);
            std::fs::write(&path, bytes).unwrap();
            if let Ok(checkpoint) = Checkpoint::open_file(&path) {
                let names: Vec<String> = checkpoint.tensors.keys().cloned().collect();
                names.iter().for_each(|name| drop(checkpoint.read(name)));
            }
        }

        fn file(header: &str, data: usize) -> Vec<u8> {
            let length = (header.len() as u64).to_le_bytes();
            [&length[..], header.as_bytes(), &vec![0; data]].concat()
        }

        proptest! {
            #![proptest_config(ProptestConfig {
                cases: 256, rng_seed: RngSeed::Fixed(20_260_603), failure_persistence: None, ..ProptestConfig::default()
            })]

            #[test]
            fn any_bytes_are_weights_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
                read_all(&bytes);
            }

            #[test]
            fn any_header_is_weights_or_an_error(
                dtype in prop::sample::select(vec!["F32", "BF16", "F16", "I64", "Q7"]),
                shape in proptest::collection::vec(prop_oneof![0..9u64, Just(u64::MAX), any::<u64>()], 0..4),
                from in prop_oneof![0..9u64, any::<u64>()], length in prop_oneof![0..40u64, any::<u64>()],
                data in 0..64usize,
            ) {
                let offsets = [from, from.wrapping_add(length)];
                let header = serde_json::json!({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}});
                read_all(&file(&header.to_string(), data));
            }

            #[test]
            fn changed_weights_are_weights_or_an_error(at in any::<Index>(), byte in any::<u8>(), kept in any::<Index>()) {
                let header = r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]}}"#;
                let mut bytes = file(header, 22);
                let at = at.index(bytes.len());
                bytes[at] = byte;
                read_all(&bytes);
                bytes.truncate(kept.index(bytes.len()));
                read_all(&bytes);
            }
        }
    }
}
