-- A database of SimpleBroker 8.7.2, as `iterdump` prints it; its ids were moved two years back,
-- so that they lie in the past whenever this runs.
BEGIN TRANSACTION;
CREATE TABLE messages (
    queue TEXT NOT NULL,
    body TEXT NOT NULL,
    ts INTEGER NOT NULL PRIMARY KEY,
    claimed INTEGER DEFAULT 0
);
INSERT INTO "messages" VALUES('jobs','read already',1732473708630581248,1);
INSERT INTO "messages" VALUES('jobs','first',1732473708664680448,0);
INSERT INTO "messages" VALUES('jobs','two
lines "quoted" ''it''''s'' 	 ü 😀',1732473708715323392,0);
INSERT INTO "messages" VALUES('mail','',1732473708761563136,0);
INSERT INTO "messages" VALUES('other','moved',1732473708827983872,0);
INSERT INTO "messages" VALUES('other','later',1732473708885831680,0);
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
);
INSERT INTO "meta" VALUES('last_ts',1732473708885831680);
INSERT INTO "meta" VALUES('alias_version',1732473712812616904);
INSERT INTO "meta" VALUES('magic','simplebroker-v1');
INSERT INTO "meta" VALUES('schema_version',6);
INSERT INTO "meta" VALUES('schema_proof_version',1);
INSERT INTO "meta" VALUES('schema_proof_cookie',6);
CREATE TABLE queue_aliases (
    alias TEXT PRIMARY KEY,
    target TEXT NOT NULL
);
INSERT INTO "queue_aliases" VALUES('inbox','mail');
CREATE INDEX idx_messages_queue_ts
ON messages(queue, ts)
;
CREATE INDEX idx_messages_pending_queue_ts
ON messages(queue, ts)
WHERE claimed = 0
;
CREATE INDEX idx_queue_aliases_target ON queue_aliases(target)
;
COMMIT;
