//! One tab: what a reader can do with a page, and what can be seen of it.

use std::path::Path;

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::Browser;

/// A tab of a browser.
pub struct Tab<'a> {
    browser: &'a mut Browser,
    session: String,
}

impl<'a> Tab<'a> {
    pub(super) fn new(browser: &'a mut Browser, session: String) -> Self {
        let mut tab = Self { browser, session };
        for domain in ["Page", "Runtime", "Log"] {
            tab.call(&format!("{domain}.enable"), json!({}));
        }
        tab
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.browser.call(Some(&self.session), method, params)
    }

    /// Opens a file and waits until it is there.
    pub fn open(&mut self, path: &Path) {
        self.browser.events.clear();
        let answer = self.call("Page.navigate", json!({"url": format!("file://{}", path.display())}));
        assert!(answer["errorText"].is_null(), "{answer}");
        self.browser.wait_for("Page.loadEventFired");
    }

    pub fn disable_scripts(&mut self) {
        self.call("Emulation.setScriptExecutionDisabled", json!({"value": true}));
    }

    /// A screen of so many pixels, in light or dark colours.
    pub fn screen(&mut self, width: u32, height: u32, is_dark: bool) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// Value of an expression, which works also where the page's own scripts are disabled.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({"expression": expression, "returnByValue": true}));
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    pub fn number(&mut self, expression: &str) -> f64 {
        self.evaluate(expression).as_f64().unwrap_or_else(|| panic!("{expression} is no number"))
    }

    /// How many elements match and can be seen.
    pub fn count_visible(&mut self, selector: &str) -> usize {
        let selector = json!(selector);
        let visible = "checkVisibility({contentVisibilityAuto: true}) && one.getBoundingClientRect().width > 0";
        self.number(&format!("[...document.querySelectorAll({selector})].filter(one => one.{visible}).length")) as usize
    }

    /// Presses the mouse in the middle of the first element that matches.
    pub fn click(&mut self, selector: &str) {
        let [x, y] = self.middle(selector);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Moves the mouse there.
    pub fn hover(&mut self, selector: &str) {
        let [x, y] = self.middle(selector);
        self.call("Input.dispatchMouseEvent", json!({"type": "mouseMoved", "x": x, "y": y}));
    }

    fn middle(&mut self, selector: &str) -> [f64; 2] {
        let selector = json!(selector);
        let middle = self.evaluate(&format!(
            "(() => {{ const one = document.querySelector({selector}); one.scrollIntoView({{block: 'center', behavior: 'instant'}});
             const box = one.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        ));
        [0, 1].map(|index| middle[index].as_f64().unwrap_or_else(|| panic!("{selector} is not there")))
    }

    /// What the page complained of since it was opened.
    pub fn complaints(&mut self) -> Vec<Value> {
        // An answer to this comes after everything that was logged before it.
        self.evaluate("0");
        let is_complaint = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] != "log",
            Some("Log.entryAdded") => event["params"]["entry"]["level"] != "verbose",
            _ => false,
        };
        self.browser.events.iter().filter(is_complaint).cloned().collect()
    }

    /// The page as it would be printed.
    pub fn pdf(&mut self) -> Vec<u8> {
        let answer = self.call("Page.printToPDF", json!({"preferCSSPageSize": true, "printBackground": false}));
        BASE64.decode(answer["data"].as_str().unwrap().as_bytes()).unwrap()
    }
}
