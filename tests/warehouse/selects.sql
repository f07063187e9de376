SELECT 1 LIMIT 50%
SELECT event FROM events ORDER BY "offset" LIMIT 3 OFFSET 2
SELECT event, count(*) FROM events GROUP BY ALL ORDER BY ALL
SELECT DISTINCT ON (event) event, message_id FROM events ORDER BY event, "offset"
SELECT event, type, count(*) FROM events GROUP BY GROUPING SETS ((event), (type), ()) ORDER BY 1,2,3
SELECT event, type, count(*), grouping(event) FROM events GROUP BY CUBE (event, type) ORDER BY ALL
SELECT event, type, count(*) FROM events GROUP BY ROLLUP (event, type) ORDER BY ALL
SELECT event, count(*) FILTER (WHERE type='track') FROM events GROUP BY event ORDER BY 1
SELECT timestamp AT TIME ZONE 'Europe/Berlin' FROM events ORDER BY 1
SELECT date_trunc('week', timestamp), count(*) FROM events GROUP BY 1 ORDER BY 1
SELECT extract(hour FROM timestamp), date_part('dow', timestamp) FROM events ORDER BY "offset"
SELECT message_id, row_number() OVER w, lag(message_id) OVER w FROM events WINDOW w AS (PARTITION BY event ORDER BY "offset") ORDER BY "offset"
SELECT sum("offset") OVER (ORDER BY "offset" ROWS BETWEEN 2 PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM events
SELECT sum("offset") OVER (ORDER BY timestamp RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW) FROM events ORDER BY 1
SELECT * FROM events QUALIFY row_number() OVER (PARTITION BY event ORDER BY "offset" DESC) = 1 ORDER BY event
SELECT list_transform([1,2], lambda x: x + 1), list_filter([1,2,3], lambda x, i: x > i), [x*2 for x in [1,2,3] if x > 1]
SELECT list_reduce([1,2,3], lambda a, b: a + b)
SELECT properties->>'$.b.c[0]', (properties->'b'->>'c'), properties->>'a' FROM events ORDER BY "offset" LIMIT 2
SELECT {'a': 1, 'b': [1,2]}.b[1], struct_pack(x := 1), MAP {'k': 1}['k'], [1,2,3][2:3], 'abc'[1:2]
SELECT CASE event WHEN 'A' THEN 1 ELSE 2 END, CASE WHEN type IN ('page') THEN 'p' END, COALESCE(user_id, 'none'), NULLIF(event,'A') FROM events ORDER BY "offset"
SELECT 1::DECIMAL(10,2), TRY_CAST('x' AS INT), CAST('2026-01-01' AS DATE) + INTERVAL 1 MONTH, DATE '2026-01-01' - 3
SELECT INTERVAL '1 year 2 days', INTERVAL 5 MINUTES, INTERVAL (1+2) HOUR, to_days(3)
SELECT E'a\nb', $$it's$$, 'it''s', 'ü', chr(10), '\n', '%_'
SELECT 1e10, 1.5e-3, 12345678901234567890, 0x1F, 1_000, 0.1+0.2, -5 % 3, 7 // 2, 7 / 2, 2 ** 3, 2 ^ 3, ~5, 5 & 3, 5 | 3, 1 << 4
SELECT event LIKE 'A%', event NOT LIKE '_', event ILIKE 'a', event SIMILAR TO 'A|B', event ~ '^A', event GLOB 'A*', regexp_matches(event,'B'), 'a%' LIKE 'a$%' ESCAPE '$' FROM events ORDER BY "offset"
SELECT a.message_id, b.message_id FROM events a JOIN events b ON a."offset" = b."offset" + 1 ORDER BY 1, 2
SELECT count(*) FROM events a LEFT JOIN events b USING (user_id)
SELECT count(*) FROM events a NATURAL JOIN events b
SELECT count(*) FROM events a SEMI JOIN (SELECT 'A' AS event) b USING (event)
SELECT count(*) FROM events a ANTI JOIN (SELECT 'A' AS event) b USING (event)
SELECT a.message_id, b.message_id FROM events a ASOF JOIN events b ON a.event = b.event AND a.timestamp > b.timestamp ORDER BY 1
SELECT count(*) FROM events a ASOF LEFT JOIN events b ON a.event = b.event AND a.timestamp > b.timestamp
SELECT * FROM (SELECT 1 AS a) POSITIONAL JOIN (VALUES (2),(3)) t(b)
SELECT count(*) FROM events a CROSS JOIN events b
SELECT count(*) FROM events a FULL OUTER JOIN (SELECT 'zz' AS user_id) b ON a.user_id = b.user_id
SELECT e.message_id, x FROM events e, LATERAL (SELECT e."offset" + 1 AS x) ORDER BY e."offset"
SELECT event, (SELECT max("offset") FROM events i WHERE i.event = o.event) FROM events o ORDER BY "offset"
SELECT count(*) FROM events WHERE "offset" = ANY (SELECT range FROM range(5)) OR "offset" > ALL (SELECT range FROM range(30))
SELECT count(*) FROM events o WHERE NOT EXISTS (SELECT 1 FROM events i WHERE i."offset" = o."offset" + 1)
SELECT count(*) FROM events WHERE user_id IS NOT DISTINCT FROM NULL AND "offset" BETWEEN 3 AND 20 AND event NOT IN ('X')
WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM t WHERE n < 5) SELECT sum(n) FROM t
WITH RECURSIVE t(n) USING KEY (n) AS (SELECT 1 UNION SELECT n+1 FROM t WHERE n < 5) SELECT * FROM t ORDER BY 1
WITH a AS MATERIALIZED (SELECT 1 AS x), b AS NOT MATERIALIZED (SELECT x + 1 AS y FROM a) SELECT * FROM a, b
SELECT 1 UNION SELECT 2 UNION ALL SELECT 2 EXCEPT SELECT 1 ORDER BY 1
(SELECT 1 AS a ORDER BY a LIMIT 1) UNION ALL (SELECT 2 LIMIT 1) ORDER BY a DESC
SELECT 1 AS a, 2 AS b UNION ALL BY NAME SELECT 3 AS b, 4 AS a ORDER BY ALL
SELECT 1 INTERSECT ALL SELECT 1
FROM events SELECT count(*) WHERE event = 'A'
FROM events WHERE "offset" < 3 ORDER BY "offset"
SELECT * EXCLUDE (properties) REPLACE ("offset" + 1 AS "offset") RENAME (event AS e) FROM events ORDER BY 1
SELECT COLUMNS('.*id') FROM events ORDER BY 1
SELECT min(COLUMNS(* EXCLUDE (properties))) FROM events
SELECT * LIKE '%id' FROM events ORDER BY ALL
SELECT #1, count(*) FROM events GROUP BY #1
SELECT event FROM events ORDER BY 1 DESC NULLS LAST, "offset" ASC NULLS FIRST
SELECT string_agg(DISTINCT event, ',' ORDER BY event DESC), list(message_id ORDER BY "offset" DESC)[1], array_agg(type)[1:2] FROM events
SELECT quantile_cont("offset", 0.5), median("offset"), approx_count_distinct(event), mode(event), arg_max(message_id, "offset"), first(message_id ORDER BY "offset") FROM events
SELECT percentile_cont(0.9) WITHIN GROUP (ORDER BY "offset") FROM events
SELECT * FROM events PIVOT (count(*) FOR event IN ('A','B') GROUP BY type) ORDER BY ALL
SELECT * FROM (SELECT type, event, "offset" FROM events) PIVOT (sum("offset") AS s, max("offset") AS m FOR event IN ('A' AS aa,'B')) ORDER BY ALL
SELECT * FROM (SELECT 1 AS a, 2 AS b) UNPIVOT (v FOR n IN (a, b)) ORDER BY ALL
SELECT * FROM (SELECT 1 AS a, NULL AS b) UNPIVOT INCLUDE NULLS (v FOR n IN (a, b)) ORDER BY ALL
SELECT unnest([1,2,3]), unnest({'a':1,'b':2})
SELECT * FROM unnest([1,2]) WITH ORDINALITY AS t(x, i)
SELECT * FROM range(3) AS r(n), generate_series(1,2) AS g(m) ORDER BY ALL
SELECT j.key, j.value FROM events e, json_each(e.properties) j ORDER BY e."offset", 1 LIMIT 5
SELECT count(*) FROM events USING SAMPLE 100%
SELECT count(*) FROM events TABLESAMPLE bernoulli(100%)
SELECT count(*) FROM events USING SAMPLE reservoir(5 ROWS) REPEATABLE (42)
SELECT event AS "select", 1 AS "a b", 2 AS "q""t" FROM events ORDER BY "offset"
SELECT e.event.upper(), 'x'.concat('y'), event.lower().upper() FROM events e ORDER BY "offset"
SELECT if("offset" > 3, 'a', 'b'), ifnull(user_id, 'x'), greatest(1, 2), try(cast('x' as int)) FROM events ORDER BY "offset"
SELECT now() > timestamptz '2000-01-01', current_date > date '2000-01-01', today() IS NOT NULL
SELECT strftime(timestamp, '%Y-%m-%d'), strptime('2026', '%Y'), epoch_ms(timestamp), time_bucket(INTERVAL 1 DAY, timestamp) FROM events ORDER BY "offset"
SELECT message_id AS x, x || '!' AS y FROM events WHERE x > 'm3' ORDER BY y
SELECT ROW(1, 'a'), (1, 2), [(1,2)]
SELECT 'a' COLLATE NOCASE = 'A', 'b' < 'a' COLLATE NOCASE
SELECT event FROM events ORDER BY event COLLATE NOCASE, "offset"
SELECT count(*) FROM events GROUP BY event HAVING count(*) > 1 ORDER BY event
SELECT x.* FROM (VALUES (1,'a'),(2,'b')) AS x(n, s) ORDER BY 1
SELECT NOT true AND false OR true, NOT (true AND false), (1+2)*3, 1+2*3, -(-1), - -1, NOT NOT true, 1 - (2 - 3), 2 ** -1, (2 ** 3) ** 2, -2 ** 2
SELECT true IS TRUE, NULL IS NOT TRUE, 1 = 1 IS TRUE, 5 BETWEEN 1 AND 3 + 3
SELECT CAST([1,2] AS VARCHAR[]), CAST({'a':1} AS STRUCT(a VARCHAR)), CAST(MAP{1:2} AS MAP(VARCHAR, INT)), 'a'::ENUM('a','b'), [1]::INT[1]
SELECT '2026-01-01 00:00:00+02'::TIMESTAMPTZ, TIMESTAMP '2026-01-01', TIME '10:00', '1'::BIT, 'x'::BLOB
SELECT date '2026-01-01' IN (SELECT date '2026-01-01'), (1,2) IN ((1,2)), 1 IN [1,2], 3 NOT IN (1,2)
SELECT union_value(k := 1), array_value(1,2), map_from_entries([('a', 1)])
SELECT sum(DISTINCT "offset"), count(DISTINCT event), count(DISTINCT (event, type)) FROM events
SELECT event, sum(count(*)) OVER () FROM events GROUP BY event ORDER BY 1
SELECT nth_value(message_id, 2 IGNORE NULLS) OVER (ORDER BY "offset") FROM events
SELECT last_value(user_id IGNORE NULLS) OVER (ORDER BY "offset") FROM events
SELECT json_object('a', 1), to_json([1]), json_group_array(event) FROM events
DESCRIBE events
SUMMARIZE SELECT "offset" FROM events
DESCRIBE SELECT event FROM events
SELECT column_name FROM (DESCRIBE events)
TABLE events
VALUES (1,'a'),(2,'b') ORDER BY 1 DESC LIMIT 1
