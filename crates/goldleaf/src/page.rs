//! Pages for people beside what is published: one for each channel, one for a catalog. They are not
//! signed, and nobody but a browser reads them; what they say is what an endpoint would believe.

use goldleaf_feed::names;
use goldleaf_fetch::Destination;
use goldleaf_host::Content;
use goldleaf_player::Home;
use goldleaf_player::feeds::{self, CATALOG, CatalogEntry, FeedView, VersionView};

use crate::failure::Failure;
use crate::output::{printable, size, when};

/// What browsers show for a folder.
pub const INDEX: &str = "index.html";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;\
    padding:0 1rem}table{border-collapse:collapse}th,td{text-align:left;padding:.3rem 1rem .3rem 0;\
    border-bottom:1px solid #ccc}code{background:#f3f3f3;padding:.1rem .3rem}\
    .keys{font-size:.8rem;overflow-wrap:anywhere}";

/// Writes the page of a channel, as it is seen now.
pub fn write(home: &Home, to: &Destination, feed: &str, channel: &str) -> Result<(), Failure> {
    let source = to.source.clone();
    let (shelf, page) = if feed == CATALOG {
        let view = feeds::catalog_at(home, source, None)?;
        (to.shelf.clone(), of_catalog(&view.organisation, &view.entries))
    } else {
        let view = feeds::look_at(home, source, (feed, channel), None)?;
        let folders = [names::FEEDS, feed, channel];
        let shelf = folders.iter().fold(to.shelf.clone(), |shelf, name| shelf.folder(name));
        (shelf, of_feed(&view))
    };
    shelf
        .replace(INDEX, Content::of(page.as_bytes()))
        .map_err(|error| Failure::io("writing the page beside the feed", &error))
}

fn of_catalog(organisation: &str, entries: &[CatalogEntry]) -> String {
    let mut body = format!("<h1>Desktops of {}</h1>\n", text(organisation));
    for CatalogEntry { feed, channel, title, description } in entries {
        // Both are words that a feed's name is made of.
        body += &format!(
            "<h2><a href=\"feeds/{feed}/{channel}/{INDEX}\">{}</a></h2>\n<p>{}</p>\n",
            text(title),
            text(description)
        );
    }
    if entries.is_empty() {
        body += "<p>There are none yet.</p>\n";
    }
    document(&format!("Desktops of {}", text(organisation)), &body)
}

fn of_feed(view: &FeedView) -> String {
    let FeedView { organisation, feed, root_keys, root_threshold, versions } = view;
    let mut body = format!("<h1>{}</h1>\n<p>of {}</p>\n", text(feed), text(organisation));
    body += "<p>To follow it: <code>goldleaf subscribe</code> with the address of this page.</p>\n";
    body +=
        "<table>\n<tr><th>Version<th>Published<th>For<th>System<th>Layers<th>Download<th>Update\n";
    versions.iter().for_each(|version| body += &row(version));
    body += "</table>\n";
    body +=
        &format!("<p>{root_threshold} of these keys say whose word counts:</p>\n<ul class=keys>\n");
    root_keys.iter().for_each(|key| body += &format!("<li><code>{}</code>\n", text(key)));
    body += "</ul>\n<p>This page is not signed. What Goldleaf fetches is, and is checked.</p>\n";
    document(&text(feed), &body)
}

fn row(version: &VersionView) -> String {
    let update = version.deltas.iter().map(|(_, len)| *len).min();
    format!(
        "<tr><td>{}<td>{}<td>{} %<td>{}<td>{}<td>{}<td>{}\n",
        version.version,
        when(version.published_unix_secs),
        version.stage,
        text(&version.os),
        text(&version.layers.join(", ")),
        size(version.pack_bytes),
        update.map_or_else(String::new, size)
    )
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width\">\n\
         <meta http-equiv=Content-Security-Policy \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n{body}</html>\n"
    )
}

/// Words of somebody's as the text of a page.
fn text(words: &str) -> String {
    let mut text = String::new();
    for letter in printable(words).chars() {
        match letter {
            '&' => text += "&amp;",
            '<' => text += "&lt;",
            '>' => text += "&gt;",
            '"' => text += "&quot;",
            '\'' => text += "&#39;",
            _ => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_never_markup() {
        assert_eq!(text("<script>\"&'"), "&lt;script&gt;&quot;&amp;&#39;");
        assert!(!text("a\u{1b}[2J\u{202e}").contains(['\u{1b}', '\u{202e}']));
        let entry = CatalogEntry {
            feed: "office".into(),
            channel: "stable".into(),
            title: "</h2><script>".into(),
            description: "\u{7}a & b".into(),
        };
        let page = of_catalog("<acme>", &[entry]);
        assert!(!page.contains("<script>") && !page.contains("<acme>"), "{page}");
        assert!(page.contains("a &amp; b") && page.contains("feeds/office/stable/index.html"));
    }
}
