//! The page in headless Chromium. Pictures of it, for people to look at, are left in the folder that
//! `MENTIKO_PICTURES` names.

use mentiko_exec::audit::Outcome;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::common::Site;
use crate::{access, append, forge, report, store, used};

/// Rows with data that can be seen.
const SHOWN: &str = "[...document.querySelectorAll('[data-row]')].filter(row => row.checkVisibility()).length";

/// Names that would run a script, or end an element, if they were put into a page as they are.
const HOSTILE: &[&str] = &[
    "<script>window.ran = 1</script>",
    "</script><script>window.ran = 2</script>",
    "</style><script>window.ran = 3</script>",
    "\"><img src=x onerror=\"window.ran = 4\">",
    "' onmouseover='window.ran = 5' autofocus onfocus='window.ran = 5",
    "\" autofocus onfocus=\"window.ran = 6",
    "</title><svg onload=\"window.ran = 7\">",
    "--><script>window.ran = 8</script><!--",
    "</option></select><iframe srcdoc=\"<script>parent.ran = 9</script>\"></iframe>",
    "javascript:window.ran=10",
    "&lt;script&gt;window.ran = 11&lt;/script&gt;",
    "line\u{2028}window.ran = 12\u{2029}",
    "turned \u{202e}tpircs\u{202c} zero\u{200b}width\u{feff}",
    "\u{0}\u{1}\u{1b}[31mred\n\r\t",
    "{{constructor.constructor('window.ran = 13')()}}${window.ran = 13}",
    "<base href=\"http://192.0.2.1/\"><link rel=\"stylesheet\" href=\"http://192.0.2.1/\">",
    "<meta http-equiv=\"refresh\" content=\"0;url=http://192.0.2.1/\">",
    "<style>@import 'http://192.0.2.1/';</style>",
];

#[test]
fn the_page_is_quiet_and_its_filters_work() {
    let site = used();
    let (path, status) = report(&site, &[]);
    assert_eq!(status, Some(0));
    let mut browser = Browser::start();
    browser.open(&path);
    assert_eq!(browser.complaints(), [""; 0]);
    let all = browser.value(SHOWN).as_u64().unwrap();
    // Three secrets each in two tables, two denials, three holders, one that is never used.
    assert_eq!(all, 3 + 3 + 2 + 3 + 1);

    let mut choose = |field: &str, value: &str| {
        browser.value(&format!(
            "(field => {{ field.value = {value:?}; field.dispatchEvent(new Event('input')); }})(document.getElementById('by-{field}'))"
        ));
        let rows = browser.value(
            "[...document.querySelectorAll('[data-row]')].filter(row => row.checkVisibility())
                .map(row => row.closest('section').id + ' ' + row.dataset.secret)",
        );
        let columns = browser
            .value("[...document.querySelectorAll('#heat thead th')].filter(head => head.checkVisibility()).length");
        let told = browser.value("document.getElementById('filtered').textContent");
        browser.value("document.getElementById('reset').click()");
        (rows, columns, told.as_str().unwrap().to_owned())
    };
    let (rows, columns, told) = choose("secret", "A");
    assert_eq!(rows, json!(["accesses A", "chains A", "exposure A", "exposure A"]));
    assert_eq!((columns, told.as_str()), (json!(3), "Filtered by secret A"));
    let (rows, columns, _) = choose("chain", "other");
    assert_eq!(
        rows,
        json!([
            "accesses A", "accesses MISSING", "chains A", "chains MISSING", "denials MISSING", "exposure A", "unused C"
        ])
    );
    assert_eq!(columns, json!(2));
    let (rows, ..) = choose("outcome", "denied");
    assert_eq!(rows, json!(["accesses MISSING", "chains MISSING", "denials MISSING", "denials ", "unused C"]));
    let (rows, ..) = choose("text", " NOT in Vault ");
    assert_eq!(rows, json!(["denials MISSING"]));
    assert_eq!(choose("text", "no such text").0, json!([]));
    assert_eq!(browser.value(SHOWN), json!(all));
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn filters_are_reached_and_used_by_keyboard() {
    let site = used();
    let mut browser = Browser::start();
    browser.open(&report(&site, &[]).0);
    let mut reached = Vec::new();
    for _ in 0..20 {
        browser.press("Tab", 9);
        reached.push(browser.value("document.activeElement.id").as_str().unwrap().to_owned());
    }
    reached.retain(|id| !id.is_empty());
    assert_eq!(reached[..5], ["by-secret", "by-chain", "by-outcome", "by-text", "reset"], "{reached:?}");
    browser.value("document.getElementById('by-text').focus()");
    browser.call("Input.insertText", json!({"text": "missing"}));
    assert_eq!(browser.value(SHOWN), json!(3));
    browser.press("Tab", 9);
    for (kind, text) in [("keyDown", "\r"), ("keyUp", "")] {
        let key = json!({"type": kind, "key": "Enter", "code": "Enter", "text": text, "windowsVirtualKeyCode": 13});
        browser.call("Input.dispatchKeyEvent", key);
    }
    assert_eq!(browser.value(SHOWN), json!(12));
}

#[test]
fn without_a_script_everything_is_there() {
    let site = used();
    let mut browser = Browser::start();
    browser.call("Emulation.setScriptExecutionDisabled", json!({"value": true}));
    browser.open(&report(&site, &[]).0);
    assert_eq!(browser.value(SHOWN), json!(12));
    assert_eq!(browser.value("document.getElementById('filters').checkVisibility()"), json!(false));
}

#[test]
fn tampered_names_stay_text() {
    let site = used();
    for name in HOSTILE {
        forge(&site, |line| {
            for field in ["secret", "chain", "agent", "run", "reason", "host", "command", "fence"] {
                line[field] = json!(name);
            }
        });
        forge(&site, |line| {
            line["outcome"] = json!("granted");
            line["secret"] = json!("A");
            line["host"] = json!(name);
        });
        forge(&site, |line| {
            line["outcome"] = json!("failed");
            line["event"] = json!(name);
            // 27 bytes, or it is no record.
            line["time"] = json!(format!("{:.27}", "\"><script>ran=1</script>    "));
        });
    }
    let (path, status) = report(&site, &[]);
    assert_eq!(status, Some(1));
    let mut browser = Browser::start();
    browser.open(&path);
    assert_eq!(browser.complaints(), [""; 0]);
    assert_eq!(browser.value("typeof window.ran"), json!("undefined"));
    // Escaped, not only kept from running by the policy: no element and no attribute came of them.
    let elements = browser.value("[...new Set([...document.querySelectorAll('*')].map(one => one.localName))].sort()");
    let known: Vec<Value> = [
        "a", "body", "button", "caption", "code", "dd", "div", "dl", "dt", "figcaption", "figure", "g", "h1", "h2",
        "head", "header", "html", "input", "label", "li", "line", "main", "meta", "nav", "option", "p", "rect",
        "script", "section", "select", "small", "span", "strong", "style", "svg", "table", "tbody", "td", "th",
        "thead", "title", "tr", "ul",
    ]
    .map(|name| json!(name))
    .into();
    let strange: Vec<&Value> = elements.as_array().unwrap().iter().filter(|name| !known.contains(name)).collect();
    assert_eq!(strange, [&Value::Null; 0]);
    assert_eq!(
        browser.value("[document.scripts.length, document.querySelectorAll('style, meta').length]"),
        json!([1, 6])
    );
    let handlers = "[...document.querySelectorAll('*')].flatMap(one => one.getAttributeNames()).filter(name => name.startsWith('on') || name === 'autofocus')";
    assert_eq!(browser.value(handlers), json!([]));
    // They are there to be read, and can be filtered by: nothing but the rows of that name.
    for name in HOSTILE.iter().filter(|name| !name.chars().any(|c| c.is_control() || "\u{2028}\u{202e}".contains(c))) {
        let rows = browser.value(&format!(
            "(() => {{ const field = document.getElementById('by-secret'); field.value = {};
               field.dispatchEvent(new Event('input'));
               return [...document.querySelectorAll('#accesses [data-row]')].filter(row => !row.hidden).map(row => row.cells[0].firstChild.data.trim()); }})()",
            json!(name)
        ));
        assert_eq!(rows, json!([name]));
    }
    let text = browser.value("document.body.textContent");
    let text = text.as_str().unwrap();
    assert!(text.contains("\\u{202e}") && text.contains("\\u{2028}") && text.contains("\\u{1b}[31m"));
    assert!(!text.contains('\u{202e}') && !text.contains('\u{1b}'));
    browser.picture("body", "report-tampered.png");
}

#[test]
fn the_policy_stops_what_escaping_would_miss() {
    let site = used();
    let (path, _) = report(&site, &[]);
    let page = std::fs::read_to_string(&path).unwrap();
    let bad = site.file("bad.html");
    std::fs::write(&bad, page.replace("<main>", "<script>window.ran = 1</script><img src=\"http://192.0.2.1/\" onerror=\"window.ran = 2\"><p style=\"color:red\">")).unwrap();
    let mut browser = Browser::start();
    browser.open(&bad);
    assert_eq!(browser.value("typeof window.ran"), json!("undefined"));
    let complaints = browser.complaints();
    // So the test would see it, if the page itself broke its policy.
    for directive in ["script-src", "img-src", "style-src"] {
        assert!(
            complaints.iter().any(|told| told.contains("Content Security Policy") && told.contains(directive)),
            "{complaints:?}"
        );
    }
    let sent = browser.value("fetch('http://192.0.2.1/').then(() => 'sent', () => 'stopped')");
    assert_eq!(sent, json!("stopped"));
    // Without the policy it would have run.
    std::fs::write(&bad, std::fs::read_to_string(&bad).unwrap().replace("Content-Security-Policy", "X-Nothing"))
        .unwrap();
    browser.open(&bad);
    assert_ne!(browser.value("typeof window.ran"), json!("undefined"));
}

/// 80 secrets, 20 chains: light, dark and printed.
#[test]
fn a_large_instance_is_still_readable() {
    let site = Site::new();
    let secrets: Vec<String> = (0..80).map(|number| format!("SECRET_NUMBER_{number:02}")).collect();
    store(&site, &secrets);
    let chains: Vec<String> = (0..20).map(|number| format!("chain-of-some-length-{number:02}")).collect();
    let mut entries = Vec::new();
    for (at, secret) in secrets.iter().enumerate() {
        for (of, chain) in chains.iter().enumerate().filter(|(of, _)| (at * 7 + of * 3) % 5 < 2) {
            let count = 1 + (at * 31 + of * 17) % 13;
            entries.extend((0..count).map(|_| access(Outcome::Granted, secret, chain)));
            if (at + of) % 11 == 0 {
                entries.push(access(Outcome::Denied, secret, chain));
            }
        }
    }
    append(&site, &entries);
    let (path, status) = report(&site, &[]);
    assert_eq!(status, Some(0));
    let mut browser = Browser::start();
    for scheme in ["light", "dark"] {
        browser.media("screen", scheme);
        browser.open(&path);
        assert_eq!(browser.complaints(), [""; 0]);
        for element in ["body", "#chains", "#denials"] {
            browser.picture(element, &format!("report-{}-{scheme}.png", element.trim_start_matches('#')));
        }
    }
    assert_eq!(browser.value("document.querySelectorAll('#heat td').length"), json!(1600));
    // Nothing stands out of the page: only the heat map may scroll, by itself.
    assert_eq!(browser.value("document.documentElement.scrollWidth <= window.innerWidth"), json!(true));
    let unlabeled = "[...document.querySelectorAll('table')].filter(table => !table.caption || [...table.querySelectorAll('th')].some(head => !head.scope)).length";
    assert_eq!(browser.value(unlabeled), json!(0));
    let pale = browser.value(PALE);
    assert_eq!(pale, json!([]), "texts with less contrast than 4.5 to 1 (WCAG 2.2, 1.4.3)");
    browser.media("screen", "light");
    assert_eq!(browser.value(PALE), json!([]));
    browser.media("print", "dark");
    assert_eq!(browser.value("document.getElementById('filters').checkVisibility()"), json!(false));
    assert_eq!(browser.value("getComputedStyle(document.body).backgroundColor"), json!("rgb(255, 255, 255)"));
    let printed = browser.print("report-print.pdf");
    assert!(printed.starts_with(b"%PDF-"));
}

/// The texts whose color is too close to what is behind them.
const PALE: &str = "(() => {
    const channels = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = (color) => channels(color).slice(0, 3).map(value => value / 255)
        .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = (one) => {
        for (; one; one = one.parentElement) {
            const color = getComputedStyle(one).backgroundColor;
            if ((channels(color)[3] ?? 1) > 0) return color;
        }
        return 'rgb(255, 255, 255)';
    };
    const found = [...document.querySelectorAll('body *:not(script, title, option)')]
        .filter(one => one.checkVisibility() && [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
        .filter(one => {
            const [front, back] = [light(getComputedStyle(one).color), light(behind(one))];
            return (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05) < 4.5;
        });
    return [...new Set(found.map(one => one.localName + '.' + one.className + ' in ' + one.parentElement.className))];
})()";
