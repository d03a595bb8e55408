//! What a run left: its files with their sizes, and the text and pictures among them to be downloaded.

use super::error::PageError;
use super::{Web, format, text};
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName};
use maud::{Markup, html};
use serde::Deserialize;
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path};

/// Largest file that is sent.
const MOST_BYTES: u64 = 32 << 20;
/// Files that are listed.
const MOST_FILES: usize = 400;
/// Folders within folders that are listed.
const DEPTH: usize = 4;

/// A picture of a run is its own document, in which nothing runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

/// A file of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Relative to the run's folder.
    path: String,
    bytes: u64,
}

/// The type under which a file is sent; `None` for what is not sent.
fn kind(path: &str) -> Option<&'static str> {
    match Path::new(path).extension()?.to_str()? {
        "toml" | "md" | "json" | "jsonl" | "csv" | "txt" | "log" | "sha256" => {
            Some("text/plain; charset=utf-8")
        }
        "svg" => Some("image/svg+xml"),
        "png" => Some("image/png"),
        _ => None,
    }
}

/// The files of a run, by name, with links to those that are sent.
pub(super) fn list(id: &str, run_dir: &Path) -> Result<Markup, PageError> {
    let mut files = Vec::new();
    collect(run_dir, "", DEPTH, &mut files).map_err(|e| PageError::file(run_dir, &e))?;
    let more = files.len() > MOST_FILES;
    files.truncate(MOST_FILES);
    files.sort_by(|a, b| (a.path.matches('/').count(), &a.path).cmp(&(b.path.matches('/').count(), &b.path)));
    Ok(html! {
        ul.files {
            @for file in &files {
                li {
                    @if kind(&file.path).is_some() && file.bytes <= MOST_BYTES {
                        a href={ "/jobs/" (id) "/file?" (query(&file.path)) } { (text::shown(&file.path)) }
                    } @else {
                        (text::shown(&file.path))
                    }
                    " " span.bytes { (format::bytes(file.bytes)) }
                }
            }
        }
        p.small {
            "In " code { (text::shown(&run_dir.display().to_string())) } ". Text and pictures up to "
            (format::bytes(MOST_BYTES)) " are links."
            @if more { " More than " (MOST_FILES) " files: the others are not listed." }
        }
    })
}

fn query(path: &str) -> String {
    serde_urlencoded::to_string([("path", path)]).expect("a query has plain fields")
}

fn collect(dir: &Path, prefix: &str, depth: usize, files: &mut Vec<Entry>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        // A job that waits may have no folder yet, and temporary ones come and go.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() && depth > 0 {
            collect(&entry.path(), &format!("{path}/"), depth - 1, files)?;
        } else if kind.is_file() {
            // A file that is gone meanwhile was a temporary one.
            let Ok(metadata) = entry.metadata() else { continue };
            files.push(Entry { path, bytes: metadata.len() });
        }
        if files.len() > MOST_FILES {
            break;
        }
    }
    Ok(())
}

/// Which file is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    path: String,
}

pub(super) async fn download(
    State(web): State<Web>,
    UrlPath(id): UrlPath<String>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<([(HeaderName, String); 3], Body), PageError> {
    let Query(Asked { path }) = asked?;
    web.read(move |shared| {
        let (kind, bytes) = open(&shared.job(&id)?.run_dir, &path)?;
        let headers = [
            (CONTENT_TYPE, kind.to_owned()),
            (CONTENT_SECURITY_POLICY, POLICY.to_owned()),
            (CONTENT_DISPOSITION, format!("inline; filename=\"{}\"", file_name(&path))),
        ];
        Ok((headers, Body::from(bytes)))
    })
    .await
}

/// Letters that need no quoting in a header.
fn file_name(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-+".contains(c) { c } else { '_' }).collect()
}

/// The file's type and contents, if it is one that is sent and lies in the folder, links followed.
fn open(run_dir: &Path, path: &str) -> Result<(&'static str, Vec<u8>), PageError> {
    let missing = || PageError::NotFound(format!("path: the run has no file {path} that is sent"));
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    let kind = kind(path).filter(|_| plain).ok_or_else(missing)?;
    let root = run_dir.canonicalize().map_err(|_| missing())?;
    let file = root.join(path).canonicalize().map_err(|_| missing())?;
    if !file.starts_with(&root) || !file.is_file() {
        return Err(missing());
    }
    let failed = |e: io::Error| PageError::file(&file, &e);
    let mut bytes = Vec::new();
    fs::File::open(&file).map_err(failed)?.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        let (at, most) = (file.display(), format::bytes(MOST_BYTES));
        return Err(PageError::Bad(format!(
            "path: {at} is larger than {most}; read it on the trainer's machine"
        )));
    }
    Ok((kind, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_text_and_pictures_of_the_run_are_sent() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        fs::create_dir_all(run.join("data")).unwrap();
        fs::write(dir.path().join("secret.txt"), "s").unwrap();
        fs::write(run.join("config.toml"), "a = 1").unwrap();
        fs::write(run.join("data/x y.jsonl"), "{}").unwrap();
        fs::write(run.join("model.safetensors"), "w").unwrap();
        symlink(dir.path().join("secret.txt"), run.join("link.txt")).unwrap();
        assert_eq!(open(&run, "config.toml"), Ok(("text/plain; charset=utf-8", b"a = 1".to_vec())));
        assert!(open(&run, "data/x y.jsonl").is_ok());
        let outside = dir.path().join("secret.txt").display().to_string();
        for path in [
            "../secret.txt",
            "data/../../secret.txt",
            "./config.toml",
            &outside,
            "link.txt",
            "data",
            "",
            "absent.txt",
        ] {
            let line = format!("path: the run has no file {path} that is sent");
            assert_eq!(open(&run, path), Err(PageError::NotFound(line)));
        }
        assert!(open(&run, "model.safetensors").is_err());
        let html = list("j", &run).unwrap().into_string();
        assert!(
            html.contains("href=\"/jobs/j/file?path=data%2Fx+y.jsonl\"")
                && html.contains("model.safetensors")
        );
        assert!(!html.contains("path=model") && !html.contains("link.txt"), "{html}");
        assert_eq!(file_name("data/x\"y\r\n.json"), "x_y__.json");
    }

    #[test]
    fn a_large_file_is_refused_by_its_size() {
        let dir = tempfile::tempdir().unwrap();
        fs::File::create(dir.path().join("samples.jsonl")).unwrap().set_len(MOST_BYTES + 1).unwrap();
        let error = open(dir.path(), "samples.jsonl").unwrap_err().to_string();
        assert!(
            error.ends_with("samples.jsonl is larger than 32 MiB; read it on the trainer's machine"),
            "{error}"
        );
    }
}
