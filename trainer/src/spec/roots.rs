//! Whether everything that a job names lies where jobs may read.

use super::{CritiqueSpec, JobSpec};
use std::io;
use std::path::{Path, PathBuf};

impl JobSpec {
    /// Checks that all files and folders that the job names, and what lies directly in these folders, are in one of `roots`
    /// once links are followed. Without roots a job may name anything that the trainer may read.
    ///
    /// # Errors
    /// The key whose path lies elsewhere, or cannot be resolved.
    pub fn check_roots(&self, roots: &[PathBuf]) -> Result<(), String> {
        if roots.is_empty() {
            return Ok(());
        }
        let real = |root: &PathBuf| {
            root.canonicalize().map_err(|e| format!("trainer.data_roots: {}: {e}", root.display()))
        };
        let real = roots.iter().map(real).collect::<Result<Vec<_>, _>>()?;
        let mut copy = self.clone();
        let named = copy.paths().into_iter().map(|(key, path)| (key, path.clone())).collect::<Vec<_>>();
        for (key, path) in named.into_iter().chain(self.endpoint_paths()) {
            check(key, &path, &real, roots)?;
        }
        Ok(())
    }

    /// What chat endpoints read and write besides messages. These are not relative to the job file.
    fn endpoint_paths(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        let guard = self.guard.as_ref().map(|guard| &guard.by);
        let keys = [["critique.api_key_file", "critique.cache"], ["guard.api_key_file", "guard.cache"]];
        let judges = [Some(&self.critique), guard].into_iter().zip(keys);
        judges.flat_map(|(judge, keys)| {
            let paths = match judge {
                Some(CritiqueSpec::Chat(chat)) => [chat.api_key_file.clone(), chat.cache.clone()],
                _ => [None, None],
            };
            keys.into_iter().zip(paths).filter_map(|(key, path)| Some((key, path?)))
        })
    }
}

fn check(key: &str, path: &Path, real: &[PathBuf], roots: &[PathBuf]) -> Result<(), String> {
    let failed = |error: io::Error| {
        let shown: String = path.display().to_string().chars().take(200).collect();
        format!("{key}: {shown}: {error}")
    };
    let within = |path: &Path| real.iter().any(|root| path.starts_with(root));
    let resolved = resolve(path).map_err(failed)?;
    let mut all = vec![resolved.clone()];
    if resolved.is_dir() {
        for entry in resolved.read_dir().map_err(failed)? {
            all.push(resolve(&entry.map_err(failed)?.path()).map_err(failed)?);
        }
    }
    match all.into_iter().find(|path| !within(path)) {
        None => Ok(()),
        Some(outside) => {
            let roots: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
            let via =
                if outside == resolved { String::new() } else { format!(" (by {})", outside.display()) };
            let (path, roots) = (path.display(), roots.join(", "));
            Err(format!("{key}: {path} lies outside trainer.data_roots ({roots}){via}"))
        }
    }
}

/// Follows links and `..`. Of what does not exist yet the folder must.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let error = match path.canonicalize() {
        Ok(path) => return Ok(path),
        Err(error) => error,
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match (path.file_name(), error.kind()) {
        // A link to nowhere may lead somewhere later.
        (Some(name), io::ErrorKind::NotFound) if !path.is_symlink() => {
            Ok(parent.unwrap_or(Path::new(".")).canonicalize()?.join(name))
        }
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Folders {
        dir: tempfile::TempDir,
    }

    impl Folders {
        /// `data/` with a model and prompts, `secret/` beside it.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            for folder in ["data/model", "secret"] {
                std::fs::create_dir_all(dir.path().join(folder)).unwrap();
            }
            for file in ["data/model/config.json", "data/prompts.jsonl", "secret/key"] {
                std::fs::write(dir.path().join(file), "{}").unwrap();
            }
            Self { dir }
        }

        fn link(&self, from: &str, to: &str) {
            symlink(to, self.dir.path().join(from)).unwrap();
        }

        /// What is said of a job with this model and these prompts, the folder left out.
        fn check(&self, model: &str, prompts: &str) -> Result<(), String> {
            self.check_with(model, prompts, "")
        }

        fn check_with(&self, model: &str, prompts: &str, rest: &str) -> Result<(), String> {
            let prompts = toml::Value::from(prompts);
            let text = format!(
                "name = 'j'\nmodel = {model:?}\n[data]\nkind = 'gsm8k'\npath = {prompts}\n[grpo]\nsteps = 1\n\
                 prompts = 2\ngroup_size = 2\nlearning_rate = 1e-4\n{rest}"
            );
            let base = self.dir.path().join("data");
            let spec = JobSpec::parse(&text, "job.toml", &base).unwrap();
            let said = |e: String| {
                e.replace(&format!("{}/", self.dir.path().canonicalize().unwrap().display()), "")
                    .replace(&format!("{}/", self.dir.path().display()), "")
            };
            spec.check_roots(&[base]).map_err(said)
        }
    }

    #[test]
    fn what_lies_inside_is_taken_and_everything_is_without_roots() {
        let folders = Folders::new();
        folders.link("data/other", "model");
        for (model, prompts) in [
            ("model", "prompts.jsonl"),
            ("./other", "model/../prompts.jsonl"),
            ("model", "not-there-yet.jsonl"),
        ] {
            assert_eq!(folders.check(model, prompts), Ok(()), "{model} {prompts}");
        }
        let absolute = folders.dir.path().join("data/prompts.jsonl").display().to_string();
        assert_eq!(folders.check("model", &absolute), Ok(()));
        assert_eq!(JobSpec::default().check_roots(&[]), Ok(()));
    }

    #[test]
    fn what_leads_outside_is_refused_by_its_key() {
        let folders = Folders::new();
        folders.link("data/key", "../secret/key");
        folders.link("data/folder", "../secret");
        let outside = "lies outside trainer.data_roots (data)";
        for (prompts, said) in [
            ("../secret/key", format!("data.path: data/../secret/key {outside}")),
            ("/etc/passwd", format!("data.path: /etc/passwd {outside}")),
            ("key", format!("data.path: data/key {outside}")),
            ("folder/key", format!("data.path: data/folder/key {outside}")),
            ("folder/not-there", format!("data.path: data/folder/not-there {outside}")),
        ] {
            assert_eq!(folders.check("model", prompts), Err(said));
        }
        assert_eq!(
            folders.check("../secret", "prompts.jsonl"),
            Err(format!("model: data/../secret {outside}"))
        );
        folders.link("data/model/tokenizer.json", "../../secret/key");
        let by = format!("model: data/model {outside} (by secret/key)");
        assert_eq!(folders.check("model", "prompts.jsonl"), Err(by));
    }

    #[test]
    fn names_that_no_file_has_are_errors_by_their_key() {
        let folders = Folders::new();
        folders.link("data/nowhere", "../secret/later");
        folders.link("data/round", "round");
        let long = "x".repeat(5000);
        for prompts in ["no\0name", &long, "nowhere", "round", "none/../../secret/key", "none/none/x"] {
            let error = folders.check("model", prompts).unwrap_err();
            assert!(error.starts_with("data.path: data/") && error.len() < 400, "{error}");
            assert_eq!(error.lines().count(), 1);
        }
        let error = JobSpec::default().check_roots(&["/no/such/root".into()]).unwrap_err();
        assert!(error.starts_with("trainer.data_roots: /no/such/root: "), "{error}");
    }

    #[test]
    fn files_of_endpoints_count_too() {
        let folders = Folders::new();
        let critique = |key: &str| {
            format!(
                "[critique]\nexpert = 'chat'\nbase_url = 'https://x/v1'\nmodel = 'm'\n{key} = '/etc/passwd'\n"
            )
        };
        for key in ["api_key_file", "cache"] {
            let error = folders.check_with("model", "prompts.jsonl", &critique(key)).unwrap_err();
            assert!(error.starts_with(&format!("critique.{key}: /etc/passwd lies outside")), "{error}");
        }
    }
}
