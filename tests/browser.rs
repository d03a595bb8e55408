//! Headless Chromium of one test, driven by WebDriver (<https://www.w3.org/TR/webdriver2/>).

use crate::support::{free_address, until};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// One command, a page that loads included.
const DEADLINE: Duration = Duration::from_secs(60);
/// From asking for something until it is on the page; training goes on meanwhile.
const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(100);

const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const HOW: &str =
    "install it (apt-get install chromium chromium-driver), or run `cargo xtask test`, which does";

/// Nothing but the pages that it is sent to: no sandbox (which root cannot have), no calls home.
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// A browser with its driver; both end with it.
pub(crate) struct Browser {
    client: reqwest::Client,
    /// The address of this browser at its driver.
    at: String,
    process: Child,
    _profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver leads a group, in which its browser is.
        let group = format!("-{}", self.process.id());
        drop(Command::new("kill").args(["-KILL", "--", &group]).status());
        drop(self.process.wait());
    }
}

impl Browser {
    pub(crate) async fn start() -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder().timeout(DEADLINE).no_proxy().build().expect("a client");
        let (profile, address) = (TempDir::new().expect("a folder"), free_address());
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={}", address.port())).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.process_group(0).spawn().unwrap_or_else(|e| panic!("chromedriver: {e}; {HOW}"));
        until("chromedriver", || TcpStream::connect(address).ok());
        let mut browser =
            Self { client, at: format!("http://{address}/session"), process, _profile: profile };
        let wanted = json!({"capabilities": {"alwaysMatch": capabilities(browser._profile.path())}});
        let session = browser.post("", wanted).await;
        browser.at = format!("{}/{}", browser.at, session["sessionId"].as_str().expect("a session"));
        browser
    }

    /// Sends a command that must succeed.
    async fn post(&self, path: &str, body: Value) -> Value {
        self.try_post(path, body).await.unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// What a command gives, or why it failed.
    async fn try_post(&self, path: &str, body: Value) -> Result<Value, String> {
        let sent = self.client.post(format!("{}{path}", self.at)).body(body.to_string()).send().await;
        answer(sent).await
    }

    pub(crate) async fn goto(&self, url: &str) {
        self.post("/url", json!({"url": url})).await;
    }

    /// The next pages are this large and in this colour scheme.
    pub(crate) async fn look(&self, scheme: &str, width: u64, height: u64) {
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        for (name, parameters) in
            [("Emulation.setEmulatedMedia", media), ("Emulation.setDeviceMetricsOverride", size)]
        {
            self.post("/goog/cdp/execute", json!({"cmd": name, "params": parameters})).await;
        }
    }

    /// A picture of the whole page, as PNG.
    pub(crate) async fn picture(&self, scheme: &str, width: u64) -> Vec<u8> {
        self.look(scheme, width, 800).await;
        let height = self.number("return document.documentElement.scrollHeight").await;
        self.look(scheme, width, height).await;
        let sent = self.client.get(format!("{}/screenshot", self.at)).send().await;
        let encoded = answer(sent).await.expect("a picture");
        BASE64_STANDARD.decode(encoded.as_str().expect("text")).expect("Base64")
    }

    /// What a script returns.
    pub(crate) async fn number(&self, script: &str) -> u64 {
        let value = self.post("/execute/sync", json!({"script": script, "args": []})).await;
        value.as_u64().unwrap_or_else(|| panic!("{script}: {value}"))
    }

    /// Waits until what is to be seen of an element contains this, and returns all of it.
    pub(crate) async fn text(&self, css: &str, part: &str) -> String {
        let script = "return document.querySelector(arguments[0])?.innerText ?? ''";
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.post("/execute/sync", json!({"script": script, "args": [css]})).await;
            let seen = seen.as_str().expect("text").to_owned();
            if seen.contains(part) {
                return seen;
            }
            assert!(Instant::now() < deadline, "no {part:?} in {css}, which says: {seen}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Clicks on what this selector of CSS finds first.
    pub(crate) async fn click(&self, css: &str) {
        self.click_on("css selector", css).await;
    }

    /// Clicks on the link with this text.
    pub(crate) async fn follow(&self, text: &str) {
        self.click_on("link text", text).await;
    }

    async fn click_on(&self, using: &str, value: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // What is found may be replaced before it is clicked on.
            let clicked = self.try_click(using, value).await;
            let Err(error) = clicked else { return };
            assert!(Instant::now() < deadline, "{value}: {error}");
            tokio::time::sleep(POLL).await;
        }
    }

    async fn try_click(&self, using: &str, value: &str) -> Result<(), String> {
        let found = self.try_post("/element", json!({"using": using, "value": value})).await?;
        let id = found.as_object().and_then(|o| o.values().next()?.as_str()).ok_or("no element")?;
        self.try_post(&format!("/element/{id}/click"), json!({})).await.map(|_| ())
    }

    /// Errors and warnings on the console since it was last asked.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let entries = self.post("/se/log", json!({"type": "browser"})).await;
        let bad = |entry: &&Value| entry["level"] == "SEVERE" || entry["level"] == "WARNING";
        entries
            .as_array()
            .expect("entries")
            .iter()
            .filter(bad)
            .map(|entry| entry["message"].to_string())
            .collect()
    }
}

async fn answer(sent: reqwest::Result<reqwest::Response>) -> Result<Value, String> {
    let response = sent.map_err(|e| e.to_string())?;
    let well = response.status().is_success();
    let text = response.text().await.map_err(|e| e.to_string())?;
    let mut body: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let value = body["value"].take();
    if well { Ok(value) } else { Err(value["message"].to_string()) }
}

fn capabilities(profile: &Path) -> Value {
    let mut flags: Vec<String> = FLAGS.map(str::to_owned).into();
    flags.push(format!("--user-data-dir={}", profile.display()));
    json!({
        "browserName": "chrome",
        "goog:loggingPrefs": {"browser": "ALL"},
        "goog:chromeOptions": {"binary": binary(), "args": flags},
    })
}

fn binary() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        |name: &&str| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    BROWSERS.iter().find_map(found).unwrap_or_else(|| panic!("no Chromium was found; {HOW}"))
}
