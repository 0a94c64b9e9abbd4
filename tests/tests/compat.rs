//! Lakes that earlier versions wrote: this build reads them, writes to them, and reads them again; so does another reader.

use catena_collect::batch::{data_file, encode, writer_properties};
use catena_collect::commit::Range;
use catena_collect::lake::Lake;
use catena_collect::store::StoreOptions;
use catena_engine::{Engine, Limits, Options, Scope};
use catena_schemas::rows::{Place, Rows};
use catena_schemas::table::Class;
use catena_schemas::{Event, Micros};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const NOW: Micros = Micros(1_795_176_000_000_000);
const CLASSES: &str = "SELECT class, count(*) AS rows FROM records GROUP BY class ORDER BY class";
const CHAINS: &str =
    "SELECT count(*) AS chains, sum(events) AS events, sum(denied) AS denied, max(depth) AS depth FROM chains";

fn versions() -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat");
    let entries = fs::read_dir(corpus).expect("the corpus of versions").map(|e| e.expect("an entry").path());
    entries.filter(|path| path.join("lake").is_dir()).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("a copy")),
        }
    }
}

async fn ask(lake: &Path, statement: &str) -> Value {
    let engine = Engine::open(&lake.display().to_string(), Options::default()).await.expect("a readable lake");
    let answer = engine.session(Scope::All).sql(statement, &Limits::local()).await.expect("a statement");
    let rows = answer.collect().await.expect("rows");
    let json = catena_engine::output::to_bytes(&rows, catena_engine::output::Format::Json).expect("JSON");
    serde_json::from_slice(&json).expect("JSON")
}

async fn by_delta_rs(lake: &Path) -> usize {
    let url = url::Url::from_directory_path(lake.join("records")).expect("an absolute path");
    let table = deltalake_core::open_table(url).await.expect("a table of Delta");
    table.get_file_uris().expect("files").count()
}

async fn append(lake: &Path) {
    let lake = Lake::open(&lake.display().to_string(), &StoreOptions::default()).await.expect("a lake");
    let mut rows = Rows::default();
    let event = Event { id: "later".into(), time: NOW, ..Event::default() };
    let (tenant, topic, format, redaction) = ("default", "later", "catena", "1");
    rows.push(&event, &Place { tenant, topic, partition: 0, offset: 0, format, redaction, ingest_time: NOW }, false);
    let rows = rows.finish();
    let bytes = encode(&rows, &writer_properties(1)).expect("Parquet");
    let file = data_file(&rows, &bytes, tenant, Class::Decision, NOW);
    lake.put(&file.path, bytes.into()).await.expect("a file");
    let range = Range { app: "later".into(), from: 0, to: 1, start: 0 };
    lake.commit(vec![file], vec![range], serde_json::Map::new()).await.expect("a commit");
}

#[tokio::test]
async fn lakes_of_earlier_versions_are_read_and_written() {
    let versions = versions();
    assert!(!versions.is_empty(), "the corpus of versions is empty");
    for version in versions {
        let folder = tempfile::tempdir().expect("a folder");
        let lake = folder.path().join("lake");
        copy(&version.join("lake"), &lake);
        // Git keeps no modes, and a secret that others can read is refused.
        let secret = lake.join("_catena/secret.key");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("a mode");
        let expected: Value =
            serde_json::from_slice(&fs::read(version.join("expected.json")).expect("totals")).expect("JSON");
        assert_eq!(ask(&lake, CLASSES).await, expected["classes"], "{}", version.display());
        assert_eq!(ask(&lake, CHAINS).await, expected["chains"], "{}", version.display());
        let files = by_delta_rs(&lake).await;
        append(&lake).await;
        let found = ask(&lake, "SELECT count(*) AS n FROM records WHERE event_id = 'later' OR topic <> 'later'").await;
        let before: i64 =
            expected["classes"].as_array().into_iter().flatten().filter_map(|class| class["rows"].as_i64()).sum();
        assert_eq!(found[0]["n"].as_i64(), Some(before + 1), "{}", version.display());
        assert_eq!(by_delta_rs(&lake).await, files + 1, "{}", version.display());
    }
}
