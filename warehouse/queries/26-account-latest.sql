-- The newest state of an account
--
-- As the newest confirmed write left it, for accounts that the plugins send.
--
-- column slot: Slot of the write
-- column lamports: Lamports
-- column owner: Program that owns it
-- column executable: Whether it holds a program
-- column data_bytes: Length of its data
-- column data: Its data, base64
-- param account = SysvarC1ock11111111111111111111111111111111: The account
SELECT at.1 AS slot, lamports, base58Encode(l.owner) AS owner, executable, length(l.data) AS data_bytes, base64Encode(l.data) AS data
FROM accounts_latest AS l
WHERE account = base58Decode({account:String})
