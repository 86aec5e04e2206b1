//! A headless Chromium, driven over its own protocol (chromedevtools.github.io/devtools-protocol)
//! through two pipes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// A browser with one page.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Option<String>,
    calls: u64,
    events: Vec<Value>,
    /// What is open.
    url: String,
    _home: tempfile::TempDir,
}

impl Browser {
    pub fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        // Commands come by descriptor 3, answers go to 4.
        let script = r#"for browser in chromium-headless-shell chromium google-chrome; do
            program=$(command -v $browser) && exec "$program" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null
        done
        echo "chromium is not installed; tests/run installs it" >&2; exit 1"#;
        command.args(["-c", script, "sh", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]);
        command
            .args(["--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe", "--window-size=1280,1000"]);
        command.arg(format!("--user-data-dir={}", home.path().join("profile").display()));
        for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
            command.env(variable, home.path());
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, from) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0) {
                let Ok(message) = message else { return };
                if sender.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
            }
        });
        let mut browser =
            Self { child, to, from, session: None, calls: 0, events: Vec::new(), url: String::new(), _home: home };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Network", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Calls a method and waits for what it gives.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({"id": self.calls, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let message = self.next();
            if message["id"] == self.calls {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    /// The next message; events are kept.
    fn next(&mut self) -> Value {
        let message = self.from.recv_timeout(Duration::from_secs(120)).expect("an answer of Chromium");
        if message.get("method").is_some() {
            self.events.push(message.clone());
        }
        message
    }

    /// Opens a file, and waits until all of it was loaded.
    pub fn open(&mut self, file: &Path) {
        self.events.clear();
        self.url = format!("file://{}", file.display());
        let opened = self.call("Page.navigate", json!({"url": self.url}));
        assert!(opened.get("errorText").is_none(), "{opened}");
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            self.next();
        }
    }

    /// What an expression of JavaScript gives, in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let result = self.call("Runtime.evaluate", parameters);
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Whatever was logged, thrown, asked or requested since the page was opened, but the page itself.
    pub fn complaints(&mut self) -> Vec<String> {
        // What happened before this answer has been told by then.
        self.value("new Promise(done => setTimeout(done, 100))");
        let told =
            ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening"];
        let events = self.events.iter();
        let told = events.filter(|event| {
            told.iter().any(|method| event["method"] == *method)
                || event["method"] == "Network.requestWillBeSent" && event["params"]["request"]["url"] != self.url
        });
        told.map(ToString::to_string).collect()
    }

    /// `light` or `dark`, on `screen` or in `print`.
    pub fn media(&mut self, media: &str, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"media": media, "features": features}));
    }

    /// Presses a key, as a keyboard does.
    pub fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            self.call(
                "Input.dispatchKeyEvent",
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}),
            );
        }
    }

    /// A picture of the beginning of an element, for people to look at.
    pub fn picture(&mut self, element: &str, name: &str) {
        let place = self.value(&format!(
            "(() => {{ const place = document.querySelector('{element}').getBoundingClientRect();
               return {{x: 0, y: place.y + scrollY, width: innerWidth, height: Math.min(place.height, 1500), scale: 1}}; }})()"
        ));
        let taken = self.call("Page.captureScreenshot", json!({"captureBeyondViewport": true, "clip": place}));
        keep(name, &decoded(&taken));
    }

    /// The page as it is printed.
    pub fn print(&mut self, name: &str) -> Vec<u8> {
        let printed = self.call("Page.printToPDF", json!({"printBackground": false, "preferCSSPageSize": true}));
        let bytes = decoded(&printed);
        keep(name, &bytes);
        bytes
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Leaves a picture in the folder `MENTIKO_PICTURES`, where one is named.
fn keep(name: &str, bytes: &[u8]) {
    if let Some(folder) = std::env::var_os("MENTIKO_PICTURES") {
        std::fs::write(Path::new(&folder).join(name), bytes).unwrap();
    }
}

/// By coreutils, which have no opinion of their own.
fn decoded(answer: &Value) -> Vec<u8> {
    let text = answer["data"].as_str().unwrap();
    let output = crate::common::output_with_input(Command::new("base64").arg("--decode"), text.as_bytes());
    assert!(output.status.success());
    output.stdout
}
