//! Programs without a decoder of ours.

use super::*;

/// A program without a decoder of ours, by the IDL in the folder; what the IDL does not know is called unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_idls_names_what_we_have_no_decoder_for() {
    let folder = tempfile::Builder::new()
        .prefix("heliograph-test-idl-")
        .tempdir()
        .unwrap();
    let program = [77; 32];
    let idl = serde_json::json!({
        "address": bs58::encode(program).into_string(),
        "instructions": [{"name": "placeOrder", "discriminator": [1, 2, 3], "args": [{"name": "price", "type": "u64"}]}],
    });
    std::fs::write(folder.path().join("x.json"), idl.to_string()).unwrap();
    let bed = Bed::start().await;
    let (host, task) = bed.sink(folder.path().to_owned());
    let calls = |data: Vec<u8>, index: u64| {
        let mut update = swap(index, 1, 1, true);
        let message = update
            .transaction
            .as_mut()
            .unwrap()
            .message
            .as_mut()
            .unwrap();
        message.account_keys[9] = program.to_vec();
        message.instructions[0].data = data;
        update
    };
    let known = calls([&[1, 2, 3][..], &u64::MAX.to_le_bytes()].concat(), 0);
    let unknown = calls(vec![9, 9, 9], 1);
    bed.publish(7, vec![known, unknown], &[SlotStatus::SlotConfirmed])
        .await;
    let sql = format!(
        "SELECT groupArray((tx_index, name, outcome, arguments, length(idl))) FROM (SELECT * FROM instructions WHERE program = unhex('{}') ORDER BY tx_index)",
        hex::encode(program)
    );
    let expected = r#"[(0,'place_order','decoded','{"price":"18446744073709551615"}',8),(1,'','unknown','',0)]"#;
    bed.until(&sql, expected).await;
    host.request_drain();
    task.await.unwrap().unwrap();
}
