use super::*;
use crate::health::Health;
use crate::metrics;
use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged(format: LogFormat, speak: impl FnOnce()) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let config = LogConfig { level: "info".into(), format };
    let run_id = RunId::inherit(Some("run7".into()));
    let subscriber = subscriber(Role::Trainer, &run_id, &config, move || writer.clone()).expect("valid");
    let _guard = subscriber.set_default();
    speak();
    String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text")
}

fn speak() {
    let _job = tracing::info_span!("grpo", job = "j1").entered();
    tracing::info!(step = 3, loss = 0.5, "stepped");
    tracing::debug!("not at this level");
}

#[test]
fn text_lines_carry_role_run_and_spans() {
    let text = logged(LogFormat::Text, speak);
    let target = "sinternal_service::telemetry::tests";
    assert!(
        text.ends_with(&format!(
            " INFO trainer run7 {target}: stepped step=3 loss=0.5 in grpo{{job=\"j1\"}}\n"
        )),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn json_lines_carry_role_run_fields_and_spans() {
    let text = logged(LogFormat::Json, speak);
    let line: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
    assert_eq!(line["run_id"], "run7");
    assert_eq!(line["role"], "trainer");
    assert_eq!(line["message"], "stepped");
    assert_eq!(line["fields"], serde_json::json!({"step": 3, "loss": 0.5}));
    assert_eq!(line["spans"], serde_json::json!(["grpo{job=\"j1\"}"]));
}

#[test]
fn a_run_id_is_inherited_or_new() {
    assert_eq!(RunId::inherit(Some("abc".into())).as_str(), "abc");
    let (one, two) = (RunId::inherit(None), RunId::inherit(Some(String::new())));
    assert_eq!((one.as_str().len(), two.as_str().len()), (16, 16));
    assert_ne!(one, two);
}

#[test]
fn a_bad_level_is_refused_by_name() {
    let config = LogConfig { level: "sinternal=loud".into(), format: LogFormat::Text };
    let error = subscriber(Role::Client, &RunId::inherit(None), &config, std::io::sink);
    let text = error.err().expect("no such level").to_string();
    assert!(text.starts_with("`log.level`: `sinternal=loud` is neither a level nor a filter"), "{text}");
}

async fn http_get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answers");
    answer
}

#[tokio::test]
async fn the_side_port_tells_metrics_life_and_readiness() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let address = listener.local_addr().expect("bound");
    let (health, (stop, stopped)) = (Health::starting(), tokio::sync::oneshot::channel::<()>());
    let shutdown = async move { drop(stopped.await) };
    install(Role::Reward).expect("installs");
    let extra = axum::Router::new().route("/own", axum::routing::get(async || "own\n"));
    let server = tokio::spawn(serve_metrics_with(listener, Role::Reward, health.clone(), extra, shutdown));

    assert!(http_get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    let starting = http_get(address, "/readyz").await;
    assert!(starting.starts_with("HTTP/1.1 503") && starting.ends_with("starting\n"), "{starting}");
    health.set_ready();
    assert!(http_get(address, "/readyz").await.ends_with("ready\n"));
    assert!(http_get(address, "/own").await.ends_with("own\n"));

    metrics::scored_total("safe").increment(3);
    metrics::score_seconds().record(0.02);
    metrics::verifier_seconds("self").record(2.0);
    let text = http_get(address, "/metrics").await;
    for line in [
        "sinternal_scored_total{role=\"reward\",outcome=\"safe\"} 3",
        "# HELP sinternal_scored_total Answers judged, by verdict or reason.",
        "sinternal_build_info{role=\"reward\"} 1",
        "sinternal_ready{role=\"reward\"} 1",
        "sinternal_score_seconds_bucket{role=\"reward\",le=\"0.01\"} 0",
        "sinternal_score_seconds_bucket{role=\"reward\",le=\"0.025\"} 1",
        "sinternal_verifier_seconds_bucket{role=\"reward\",reward=\"self\",le=\"1\"} 0",
        "sinternal_verifier_seconds_bucket{role=\"reward\",reward=\"self\",le=\"2.5\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
    }
    drop(stop);
    let ended = tokio::time::timeout(Duration::from_secs(10), server).await.expect("ends");
    ended.expect("joins").expect("serves");
}
