//! The page of a hub in a real Chromium, as somebody sees it who watches over two gateways. Pictures of it are left in `target/page/`.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use sedge_tests::rig::browser::Browser;
use sedge_tests::rig::daemon::Daemon;
use sedge_tests::rig::device::{Device, Habit};
use sedge_tests::rig::site::{STREAM, Setup, Site, ask_at, start_agent_with};
use sedge_tests::rig::{alone, free_address, skip};
use serde_json::{Value, json};

/// An empty hub, a gateway that sends and one that is killed, an outage of the hub in which events are lost, a group, and records that try to be a page.
#[test]
fn who_looks_at_a_hub_sees_how_its_gateways_are() {
    let story = "who_looks_at_a_hub_sees_how_its_gateways_are";
    let _alone = alone();
    let site = Site::new(Setup {
        capacity: "4MiB".into(),
        ..Setup::default()
    });
    let browser = match Browser::start(&site.file("")) {
        Ok(browser) => browser,
        Err(missing) => return skip(story, &missing),
    };
    let hub = site.start_hub();
    site.wait_for_hub();
    browser.open(&format!("http://{}/", site.hub_http));
    browser.wait_for("#no-gateway", "sedge agent --config");
    assert_eq!(browser.text("#gateways-table"), "");

    let _agent = site.start_agent();
    site.wait_for_agent();
    let device = Device::start(Habit {
        in_flight: 2,
        rest: Duration::from_millis(10),
        ..Habit::new(site.devices, PRETENDER)
    });
    gateways_and_streams(&browser);
    a_gateway_that_is_killed(&browser, &site);
    a_group(&browser, &site);
    nothing_is_complained_of(&browser);

    let _hub = an_outage(&browser, &site, hub);
    gaps_and_plot(&browser);
    the_tail(&browser, &site);
    nothing_that_was_sent_has_run(&browser);
    keys(&browser);
    drop(device.finish(PATIENCE));
    sizes_and_colours(&browser);
    nothing_is_complained_of(&browser);
}

fn gateways_and_streams(browser: &Browser) {
    wait_for_connection(browser, "gw-test");
    // The gateway has told of itself.
    browser.wait_for(&row("gateways", "gw-test"), "right");
    browser.wait_for("#connected", "1 of 1");
    browser.wait_until("a stream has a rate", || {
        let shown = browser.text(&format!("{} td:nth-child(2)", row("streams", STREAM)));
        shown.parse::<f64>().is_ok_and(|rate| rate > 0.0)
    });
    browser.wait_until("what came is drawn", || {
        let heights =
            "[...document.querySelectorAll('#plot .area')].map(area => area.getBBox().height)";
        let height = browser.run(&format!("return Math.max(...{heights})"));
        height.as_f64().is_some_and(|height| height > 1.0)
    });
}

fn a_gateway_that_is_killed(browser: &Browser, site: &Site) {
    let config = std::fs::read_to_string(site.agent_toml()).expect("a configuration file");
    let config = config
        .replace("\"gw-test\"", "\"gw-zulu\"")
        .replace(&site.devices.to_string(), &free_address().to_string())
        .replace(&site.agent_http.to_string(), &free_address().to_string())
        .replace(
            &site.agent_data().display().to_string(),
            &site.file("other").display().to_string(),
        );
    let file = site.file("zulu.toml");
    std::fs::write(&file, config).expect("a configuration file");
    let zulu = start_agent_with(&file, &site.file("zulu.log"));
    wait_for_connection(browser, "gw-zulu");
    browser.wait_for("#connected", "2 of 2");
    zulu.kill();
    // The worst first.
    browser.wait_for("#gateways-table tbody:first-of-type", "gw-zulu");
    browser.wait_for(&row("gateways", "gw-zulu"), "not connected for");
    browser.wait_for("#gateways-count", "1 not connected");
}

fn a_group(browser: &Browser, site: &Site) {
    let asked = json!({ STREAM: "earliest" }).to_string();
    let path = "/v1/consumers/billing/offsets";
    let (status, answer) = ask_at(site.hub_http, "PUT", path, &asked).expect("an answer");
    assert_eq!(status, 200, "{answer}");
    browser.wait_until("a group lags behind", || {
        let lag = browser.text(&format!("{} td:nth-child(3)", row("groups", "billing")));
        let digits: String = lag.chars().filter(char::is_ascii_digit).collect();
        digits.parse::<u64>().is_ok_and(|lag| lag > 0)
    });
}

/// The hub is away while more comes to the gateway than it can keep.
fn an_outage(browser: &Browser, site: &Site, hub: Daemon) -> Daemon {
    hub.kill();
    browser.wait_for("#banner", "The hub does not answer. What is shown is from");
    picture(browser, "away", "light", 1280, false);
    let mut lines = String::new();
    for n in 0..8_000 {
        writeln!(lines, "{{\"n\":{n},\"filling\":\"{}\"}}", "x".repeat(1_000)).expect("memory");
    }
    assert!(site.push(&lines).status.success());
    let hub = site.start_hub();
    site.wait_for_hub();
    browser.act("document.querySelector('#banner button').click()");
    browser.wait_until("the hub is back", || browser.text("#banner").is_empty());
    wait_for_connection(browser, "gw-test");
    // What cannot be asked while it is away is told in the console, too.
    let complaints = browser.console();
    let others = complaints.iter().find(|line| !line.contains("net::ERR_"));
    assert_eq!(others, None);
    hub
}

fn gaps_and_plot(browser: &Browser) {
    browser.wait_for("#gaps-table tbody", "evicted");
    browser.wait_until("the gap is on the time line", || {
        browser.run("return document.querySelectorAll('#plot rect.gap').length") != 0
    });
    let said = browser.text("#gaps-count");
    assert!(said.contains("gap") && said.contains("lost"), "{said}");
    browser.act("document.getElementById('plot').focus()");
    browser.press("\u{e012}");
    browser.wait_for("#readout", " to ");
    let spoken = browser.run("return document.getElementById('plot').ariaValueText");
    assert_eq!(spoken, browser.text("#readout"));
    browser.act("document.querySelector('#span [value=week]').click()");
    browser.wait_for("#plot-title", "in the last week");
    browser.wait_for("#gaps-table tbody", "evicted");
    browser.act("document.querySelector('#span [value=hour]').click()");
}

fn the_tail(browser: &Browser, site: &Site) {
    browser.wait_until("events come", || shown_in_tail(browser).len() > 5);
    browser.act("document.getElementById('tail-filter').focus()");
    browser.press("a-needle");
    browser.wait_until("only what is looked for is shown", || {
        shown_in_tail(browser).is_empty()
    });
    assert!(site.push("{\"found\":\"A-Needle\"}\n").status.success());
    browser.wait_until("what was just pushed is shown", || {
        let shown = shown_in_tail(browser);
        shown.len() == 1 && shown[0].contains("{\"found\":\"A-Needle\"}")
    });
    for _ in 0.."a-needle".len() {
        browser.press("\u{e003}");
    }
    browser.press(&format!("key={PRETENDER}"));
    browser.wait_until("a key is found", || {
        let shown = shown_in_tail(browser);
        shown.len() > 5 && shown.iter().all(|row| row.contains(PRETENDER))
    });
    browser.press("\u{e00c}p");
    browser.wait_for("#tail-state", "paused");
    browser.press("p");
    browser.wait_for("#tail-state", "Following");
}

/// The rows of the tail that are to be seen if one goes there.
fn shown_in_tail(browser: &Browser) -> Vec<String> {
    let rows = browser.run(
        "return [...document.querySelectorAll('#tail-table tbody tr:not([hidden])')].map(row => row.textContent)",
    );
    let rows = rows.as_array().expect("a list").iter();
    rows.filter_map(|row| row.as_str().map(str::to_owned))
        .collect()
}

fn nothing_that_was_sent_has_run(browser: &Browser) {
    assert_eq!(browser.run("return document.title"), "sedge hub");
    let made = "return document.querySelectorAll('#contents :is(img, script)').length";
    assert_eq!(browser.run(made), 0);
    // Not even if somebody had made an element of it.
    browser.act(
        "const script = document.createElement('script');
         script.textContent = 'document.title = \"taken over\"';
         document.body.append(script);",
    );
    assert_eq!(browser.run("return document.title"), "sedge hub");
    let complaints = browser.console();
    let blocked = |line: &String| line.contains("Content Security Policy");
    assert!(complaints.iter().any(blocked), "{complaints:?}");
}

fn keys(browser: &Browser) {
    let focused = || browser.run("return document.activeElement.id");
    browser.press("/");
    assert_eq!(focused(), "search");
    browser.press("zulu");
    browser.wait_for("#gateways-count", "1 of 2 shown");
    browser.press("\u{e003}\u{e003}\u{e003}\u{e003}");
    browser.wait_for("#gateways-count", "2 gateways");
    browser.press("\u{e00c}?");
    assert_eq!(
        browser.run("return document.getElementById('keys').open"),
        true
    );
    browser.press("\u{e00c}");
    assert_eq!(
        browser.run("return document.getElementById('keys').open"),
        false
    );
    // With Tab alone one comes to everything, and out again.
    browser.act("document.activeElement.blur()");
    let mut seen = Vec::new();
    while seen.len() < 60 && !seen.contains(&Value::from("pause")) {
        browser.press("\u{e004}");
        seen.push(browser.run(
            "const here = document.activeElement; return here.id || here.getAttribute('aria-labelledby') || here.textContent",
        ));
    }
    for wanted in [
        "search",
        "gateways-title",
        "gw-test",
        STREAM,
        "plot",
        "gaps",
        "tail-filter",
    ] {
        assert!(seen.contains(&wanted.into()), "{wanted}: {seen:?}");
    }
    browser.press("\u{e004}\u{e004}");
    assert_ne!(focused(), "pause");
    // A gateway with its partitions.
    browser.act("[...document.querySelectorAll('#gateways-table button')].at(-1).click()");
    browser.wait_for("#gateways-table .within", "reported");
}

fn sizes_and_colours(browser: &Browser) {
    for (name, scheme, size, is_phone) in [
        ("light", "light", (1280, 900), false),
        ("dark", "dark", (1280, 900), false),
        ("phone", "light", (360, 740), true),
    ] {
        browser.dress(scheme, size, is_phone);
        browser.wait_until("it is drawn anew", || {
            let right = browser
                .run("return document.querySelector('#plot svg')?.getBoundingClientRect().right");
            right
                .as_f64()
                .is_some_and(|right| right <= f64::from(size.0))
        });
        let wide = browser.run("return document.documentElement.scrollWidth");
        assert!(wide.as_u64() <= Some(size.0.into()), "{name}: {wide}");
        let ground = browser.run("return getComputedStyle(document.body).backgroundColor");
        let is_dark = ground
            .as_str()
            .is_some_and(|ground| ground.contains("(18,"));
        assert_eq!(is_dark, scheme == "dark", "{ground}");
        picture(browser, name, scheme, size.0, is_phone);
    }
}

/// Leaves a picture of all of the page, as on a screen that is high enough for it.
fn picture(browser: &Browser, name: &str, scheme: &str, width: u32, is_phone: bool) {
    let height = browser.run("return document.documentElement.scrollHeight");
    let height = height.as_u64().and_then(|height| height.try_into().ok());
    browser.dress(scheme, (width, height.expect("a height")), is_phone);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/page");
    browser.picture(&folder.join(format!("{name}.png")));
}

/// At a hub that knows its consumers the page asks for a token, and says if one is not good; so it does over TLS.
#[test]
fn who_has_no_token_is_asked_for_one() {
    let story = "who_has_no_token_is_asked_for_one";
    let _alone = alone();
    let mut site = Site::new(Setup::default());
    let browser = match Browser::start(&site.file("")) {
        Ok(browser) => browser,
        Err(missing) => return skip(story, &missing),
    };
    site.see_hub_at(site.hub);
    let _hub = site.start_hub();
    site.wait_for_hub();
    let token = std::fs::read_to_string(site.file("token")).expect("a token");
    for scheme in ["http", "https"] {
        browser.open(&format!("{scheme}://{}/", site.hub_http));
        browser.wait_for("#door", "Token of a consumer");
        assert_eq!(browser.text("#contents"), "");
        browser.press("sedge1.nonsense\u{e007}");
        browser.wait_for("#denied", "That token is not good here");
        browser.press(&format!("{}\u{e007}", token.trim()));
        browser.wait_for("#no-gateway", "No gateway has come");
    }
    picture(&browser, "empty", "light", 1280, false);
    let kept = browser
        .run("return [Object.keys(sessionStorage).length, localStorage.length, document.cookie]");
    assert_eq!(kept, json!([1, 0, ""]));
    let complaints = browser.console();
    let others = complaints
        .iter()
        .find(|line| !line.contains("status of 401"));
    assert_eq!(others, None);
}

fn wait_for_connection(browser: &Browser, gateway: &str) {
    let state = format!("{} .state", row("gateways", gateway));
    browser.wait_until("a gateway is connected", || {
        browser.text(&state) == "connected"
    });
}

fn nothing_is_complained_of(browser: &Browser) {
    assert_eq!(browser.console(), Vec::<String>::new());
}

/// Where something stands in one of the tables.
fn row(table: &str, name: &str) -> String {
    // CSS cannot look for a text; rows of these tests stand under their names.
    format!("#{table}-table tbody[data-key^={}] tr", json!(name))
}

/// A client id, and so a key of records, that would change the page's title if it were taken for a part of it.
const PRETENDER: &str = "<img src=x onerror=document.title='hit'>";
const PATIENCE: Duration = Duration::from_secs(30);
