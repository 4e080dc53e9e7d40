//! Finds and starts a browser.

use std::{
    env, fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tungstenite::WebSocket;

use super::PATIENCE;

const NAMES: [&str; 5] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

pub fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let folders: Vec<_> = env::split_paths(&path).collect();
    let programs = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    programs.into_iter().find(|program| program.is_file())
}

/// Starts it without a window and connects to it.
pub fn start(program: &Path, profile: &Path) -> (Child, WebSocket<TcpStream>) {
    let child = Command::new(program)
        .args(["--headless=new", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu", "--hide-scrollbars"])
        // The page under test is our own, and containers seldom allow a sandbox within.
        .args(["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-extensions"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg("about:blank")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (port, path) = address(profile);
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (socket, _) = tungstenite::client(format!("ws://127.0.0.1:{port}{path}"), stream).unwrap();
    (child, socket)
}

/// The browser writes its port and the path of its socket once it listens.
fn address(profile: &Path) -> (u16, String) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(profile.join("DevToolsActivePort")).unwrap_or_default();
        if let Some((port, path)) = text.split_once('\n').filter(|(_, path)| path.starts_with("/devtools/")) {
            return (port.parse().unwrap(), path.trim().to_owned());
        }
        assert!(Instant::now() < deadline, "the browser does not listen");
        thread::sleep(Duration::from_millis(20));
    }
}
