//! The vendor's end: an HTTP server on the loopback that keeps the headers of each request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

/// One thread, one request at a time: a client waits for its answer before it asks again.
pub(crate) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Headers>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Names in lower case.
type Headers = BTreeMap<String, String>;

impl Server {
    /// Gives this answer to each `POST` to this path, and 404 to anything else.
    pub(crate) fn start(path: &str, answer: &Value) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stopping = Arc::new(AtomicBool::new(false));
        let (expected, answer) = (format!("POST {path} HTTP/1.1"), answer.to_string());
        let (kept, stop) = (Arc::clone(&requests), Arc::clone(&stopping));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                // A client that breaks off reports it itself.
                let _ = stream.and_then(|stream| serve(&stream, &expected, &answer, &kept));
            }
        });
        Self { address, requests, stopping, thread: Some(thread) }
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// This header of every request so far, empty where one had none.
    pub(crate) fn received(&self, header: &str) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|headers| headers.get(header).cloned().unwrap_or_default()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // The thread waits for a connection: this is its last.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(stream: &TcpStream, expected: &str, answer: &str, kept: &Mutex<Vec<Headers>>) -> Result<()> {
    // So that no client can keep the test from ending.
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut headers = Headers::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    kept.lock().unwrap().push(headers);

    let (status, body) = match request.trim_end() == expected {
        true => ("200 OK", answer),
        false => ("404 Not Found", "{}"),
    };
    let length = body.len();
    let mut stream = stream;
    stream.write_all(
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )
        .as_bytes(),
    )
}
