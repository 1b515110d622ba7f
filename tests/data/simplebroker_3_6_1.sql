-- A database of SimpleBroker 3.6.1, as `iterdump` prints it; its ids were moved two years back,
-- so that they lie in the past whenever this runs.
BEGIN TRANSACTION;
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    body TEXT NOT NULL,
    ts INTEGER NOT NULL UNIQUE,
    claimed INTEGER DEFAULT 0
);
INSERT INTO "messages" VALUES(1,'jobs','read already',1732473704958353408,1);
INSERT INTO "messages" VALUES(2,'jobs','first',1732473705023496192,0);
INSERT INTO "messages" VALUES(3,'jobs','two
lines "quoted" ''it''''s'' 	 ü 😀',1732473705098977280,0);
INSERT INTO "messages" VALUES(4,'mail','',1732473705146654720,0);
INSERT INTO "messages" VALUES(5,'other','moved',1732473705196437504,0);
INSERT INTO "messages" VALUES(6,'other','later',1732473705296281600,0);
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
);
INSERT INTO "meta" VALUES('last_ts',1732473705296281600);
INSERT INTO "meta" VALUES('alias_version',1732473707757810003);
INSERT INTO "meta" VALUES('magic','simplebroker-v1');
INSERT INTO "meta" VALUES('schema_version',4);
CREATE TABLE queue_aliases (
    alias TEXT PRIMARY KEY,
    target TEXT NOT NULL
);
INSERT INTO "queue_aliases" VALUES('inbox','mail');
CREATE INDEX idx_messages_queue_ts_id
ON messages(queue, ts, id)
;
CREATE INDEX idx_messages_unclaimed
ON messages(queue, claimed, id)
WHERE claimed = 0
;
CREATE INDEX idx_queue_aliases_target ON queue_aliases(target)
;
CREATE UNIQUE INDEX idx_messages_ts_unique
ON messages(ts)
;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('messages',6);
COMMIT;
