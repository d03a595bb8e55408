//! What a client is told that speaks plain HTTP to a port that speaks TLS.

use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WORDS: &[u8] = b"this port speaks TLS: use https://";
/// First byte of a TLS record that holds a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 0x16;
/// The error code "inadequate security" (RFC 9113, 7), which gRPC clients read as a refusal.
const INADEQUATE_SECURITY: u8 = 0x0c;
/// Bytes before a client's first frame (RFC 9113, 3.4), and the type of the frame that begins a request.
const PREFACE: u64 = 24;
const HEADERS: u8 = 1;
/// What is read of such a client before the connection closes, at most.
const MOST: u64 = 64 << 10;

/// What a client begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    Tls,
    PlainHttp2,
    Other,
}

/// Looks at a client's first bytes and leaves them where they are.
pub(super) async fn spoken(stream: &TcpStream) -> io::Result<Spoken> {
    let mut first = [0; 3];
    let count = stream.peek(&mut first).await?;
    Ok(match &first[..count] {
        [HANDSHAKE, ..] => Spoken::Tls,
        b"PRI" => Spoken::PlainHttp2,
        _ => Spoken::Other,
    })
}

/// Says in the client's own protocol what is wrong.
pub(super) async fn tell(stream: &mut TcpStream, spoken: Spoken) -> io::Result<()> {
    let answer = if spoken == Spoken::PlainHttp2 {
        wait_for_request(stream).await?;
        go_away()
    } else {
        bad_request()
    };
    stream.write_all(&answer).await?;
    stream.shutdown().await?;
    // Closing with unread bytes would reset the connection, and the answer might be lost with it.
    tokio::io::copy(&mut stream.take(MOST), &mut tokio::io::sink()).await?;
    Ok(())
}

/// Reads frames up to the first request: only a request that is under way is told why the connection closes.
async fn wait_for_request(stream: &mut TcpStream) -> io::Result<()> {
    let mut sink = tokio::io::sink();
    tokio::io::copy(&mut (&mut *stream).take(PREFACE), &mut sink).await?;
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await?;
        let [a, b, c, kind, ..] = header;
        tokio::io::copy(&mut (&mut *stream).take(u64::from(u32::from_be_bytes([0, a, b, c]))), &mut sink)
            .await?;
        if kind == HEADERS {
            return Ok(());
        }
    }
}

/// An empty SETTINGS frame, then GOAWAY with the words as its debug data (RFC 9113, 6.5 and 6.8).
fn go_away() -> Vec<u8> {
    let length = u8::try_from(8 + WORDS.len()).unwrap_or(u8::MAX);
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let header = [0, 0, length, 7, 0, 0, 0, 0, 0];
    let (last_stream, code) = ([0; 4], [0, 0, 0, INADEQUATE_SECURITY]);
    [&settings[..], &header, &last_stream, &code, WORDS].concat()
}

fn bad_request() -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        WORDS.len()
    );
    [head.as_bytes(), WORDS].concat()
}
