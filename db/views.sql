-- The documented views, as the migrations leave them: this file is for reading, a test compares it
-- with the migrations. To change a view, add a migration and change the text here.

-- One row for each image and attribute: the label.
CREATE VIEW label AS
SELECT i.dataset, i.coco_id, i.file_name, i.split, a.name AS attribute, a.group_name, l.state,
       l.probability, l.judged, l.confidence, l.conflict, i.rule_version, i.id AS image_id
FROM image_attribute l
JOIN image i ON i.id = l.image_id
JOIN attribute a ON a.id = l.attribute_id;

-- One row for each piece of evidence behind a label; the source `model` is an image model that was
-- trained without the image.
CREATE VIEW evidence AS
SELECT i.dataset, i.coco_id, i.file_name, a.name AS attribute, e.source, e.state, e.confidence,
       e.detail, e.segment_id, e.caption_id, i.id AS image_id
FROM attribute_evidence e
JOIN image i ON i.id = e.image_id
JOIN attribute a ON a.id = e.attribute_id
UNION ALL
SELECT i.dataset, i.coco_id, i.file_name, a.name, 'model',
       CASE WHEN l.model_probability >= 0.5 THEN 'present' ELSE 'absent' END,
       CASE WHEN l.model_probability >= 0.5 THEN l.model_probability
            ELSE 1 - l.model_probability END,
       'trained without this image, taught by run ' || i.model_run_id, NULL, NULL, i.id
FROM image_attribute l
JOIN image i ON i.id = l.image_id
JOIN attribute a ON a.id = l.attribute_id
WHERE l.model_probability IS NOT NULL;

-- One row for each attribute that a COCONut-PanCap text gives a segment.
CREATE VIEW segment_label AS
SELECT i.dataset, i.coco_id, i.split, x.segment_id, c.name AS category, a.name AS attribute,
       a.group_name, x.confidence, x.detail, s.area, s.rle, i.id AS image_id
FROM segment_attribute x
JOIN image i ON i.id = x.image_id
JOIN attribute a ON a.id = x.attribute_id
JOIN segment s ON s.image_id = x.image_id AND s.segment_id = x.segment_id
LEFT JOIN category c ON c.id = s.category_id;

-- The newest judgement of each annotator, image and attribute.
CREATE VIEW judgement_latest AS
SELECT i.dataset, i.coco_id, i.file_name, i.split, a.name AS attribute, a.group_name, j.state,
       j.annotator, j.kind, j.guideline, j.chosen, j.judged_at, j.attribute_id, j.image_id
FROM judgement j
JOIN image i ON i.id = j.image_id
JOIN attribute a ON a.id = j.attribute_id
WHERE NOT EXISTS (
  SELECT 1 FROM judgement n
  WHERE n.image_id = j.image_id AND n.attribute_id = j.attribute_id
    AND n.annotator = j.annotator AND n.judged_at > j.judged_at);

-- What counts as true: people's judgements, or without any those of AI models. Annotators who
-- differ, or of whom one is unsure, leave the state unsure.
CREATE VIEW truth AS
SELECT l.dataset, l.coco_id, l.file_name, l.split, l.attribute, l.group_name,
       CASE WHEN MIN(l.state) = MAX(l.state) THEN MIN(l.state) ELSE 'unsure' END AS state,
       l.kind, COUNT(*) AS annotators, l.attribute_id, l.image_id
FROM judgement_latest l
WHERE l.kind = 'human' OR NOT EXISTS (
  SELECT 1 FROM judgement h
  WHERE h.image_id = l.image_id AND h.attribute_id = l.attribute_id AND h.kind = 'human')
GROUP BY l.dataset, l.coco_id, l.file_name, l.split, l.attribute, l.group_name, l.kind,
         l.attribute_id, l.image_id;

-- Labels of each attribute by state; coverage is the share of images with a known label.
CREATE VIEW dataset_coverage AS
SELECT i.dataset, a.name AS attribute, a.group_name, COUNT(*) AS images,
       SUM(CASE WHEN l.state = 'present' THEN 1 ELSE 0 END) AS present,
       SUM(CASE WHEN l.state = 'absent' THEN 1 ELSE 0 END) AS absent,
       SUM(CASE WHEN l.state = 'unknown' THEN 1 ELSE 0 END) AS unknown,
       SUM(CASE WHEN l.conflict THEN 1 ELSE 0 END) AS conflicts,
       1.0 * SUM(CASE WHEN l.state = 'unknown' THEN 0 ELSE 1 END) / COUNT(*) AS coverage
FROM image_attribute l
JOIN image i ON i.id = l.image_id
JOIN attribute a ON a.id = l.attribute_id
GROUP BY i.dataset, a.id, a.name, a.group_name;

-- The same for the evidence of each source; coverage is the share of labelled images.
CREATE VIEW dataset_coverage_by_source AS
SELECT i.dataset, a.name AS attribute, a.group_name, e.source,
       COUNT(DISTINCT CASE WHEN e.state = 'present' THEN i.id END) AS present,
       COUNT(DISTINCT CASE WHEN e.state = 'absent' THEN i.id END) AS absent,
       1.0 * COUNT(DISTINCT i.id) / n.images AS coverage
FROM attribute_evidence e
JOIN image i ON i.id = e.image_id
JOIN attribute a ON a.id = e.attribute_id
JOIN (SELECT dataset, COUNT(*) AS images FROM image
      WHERE rule_version IS NOT NULL GROUP BY dataset) n
  ON n.dataset = i.dataset
GROUP BY i.dataset, a.id, a.name, a.group_name, e.source, n.images;

-- Of the images in which one attribute is present and the other known: how many have both.
CREATE VIEW attribute_cooccurrence AS
SELECT i.dataset, a.name AS attribute, b.name AS other,
       SUM(CASE WHEN y.state = 'present' THEN 1 ELSE 0 END) AS both_present, COUNT(*) AS n,
       1.0 * SUM(CASE WHEN y.state = 'present' THEN 1 ELSE 0 END) / COUNT(*) AS share
FROM image_attribute x
JOIN image_attribute y
  ON y.image_id = x.image_id AND y.attribute_id <> x.attribute_id AND y.state <> 'unknown'
JOIN image i ON i.id = x.image_id
JOIN attribute a ON a.id = x.attribute_id
JOIN attribute b ON b.id = y.attribute_id
WHERE x.state = 'present'
GROUP BY i.dataset, a.id, a.name, b.id, b.name;

-- Each dataset: what upstream states, and what the database has.
CREATE VIEW dataset_summary AS
SELECT d.name AS dataset, d.title, d.is_coconut, d.expected_images, d.expected_segments,
       COUNT(i.id) AS images,
       COUNT(CASE WHEN w.state = 'done' THEN 1 END) AS downloaded,
       COUNT(CASE WHEN w.state = 'failed' THEN 1 END) AS failed,
       COUNT(i.mask_path) AS with_mask,
       COUNT(i.rule_version) AS labelled,
       COALESCE(SUM(i.bytes), 0) AS bytes,
       (SELECT COUNT(*) FROM segment s JOIN image x ON x.id = s.image_id
        WHERE x.dataset = d.name) AS segments,
       (SELECT COUNT(*) FROM caption c JOIN image x ON x.id = c.image_id
        WHERE x.dataset = d.name) AS captions
FROM dataset d
LEFT JOIN image i ON i.dataset = d.name
LEFT JOIN download w ON w.image_id = i.id
GROUP BY d.name, d.title, d.is_coconut, d.expected_images, d.expected_segments;

-- The overall scores of each run on each split that it was evaluated on, beside trivial baselines:
-- those by eyes where the split has judgements, else those against the labels.
CREATE VIEW run_summary AS
SELECT r.id AS run_id, r.kind, r.status, r.backbone, r.dataset AS trained_on,
       m.dataset AS evaluated_on, m.split, r.started_at, r.finished_at, r.train_images,
       r.val_images, MAX(m.images) AS images,
       MAX(CASE WHEN m.name = 'accuracy' THEN m.n END) AS decisions,
       MAX(CASE WHEN m.name = 'accuracy' THEN m.value END) AS accuracy,
       MAX(CASE WHEN m.name = 'accuracy' THEN m.low END) AS accuracy_low,
       MAX(CASE WHEN m.name = 'accuracy' THEN m.high END) AS accuracy_high,
       MAX(CASE WHEN m.name = 'all_absent_accuracy' THEN m.value END) AS all_absent_accuracy,
       MAX(CASE WHEN m.name = 'prior_accuracy' THEN m.value END) AS prior_accuracy,
       MAX(CASE WHEN m.name = 'map' THEN m.value END) AS map,
       MAX(CASE WHEN m.name = 'map' THEN m.low END) AS map_low,
       MAX(CASE WHEN m.name = 'map' THEN m.high END) AS map_high,
       MAX(CASE WHEN m.name = 'prior_map' THEN m.value END) AS prior_map,
       MAX(CASE WHEN m.name = 'balanced_accuracy' THEN m.value END) AS balanced_accuracy,
       MAX(CASE WHEN m.name = 'balanced_accuracy' THEN m.low END) AS balanced_accuracy_low,
       MAX(CASE WHEN m.name = 'balanced_accuracy' THEN m.high END) AS balanced_accuracy_high,
       m.against, m.judged_by,
       MAX(CASE WHEN m.name = 'map' THEN m.attributes END) AS map_attributes,
       MAX(CASE WHEN m.name = 'probe_map' THEN m.value END) AS probe_map,
       r.name, r.pinned, r.archived, r.best_epoch
FROM run r
LEFT JOIN run_metric m ON m.run_id = r.id
AND m.against = (SELECT MIN(x.against) FROM run_metric x
                 WHERE x.run_id = m.run_id AND x.dataset = m.dataset AND x.split = m.split)
GROUP BY r.id, r.kind, r.status, r.backbone, r.dataset, m.dataset, m.split, r.started_at,
         r.finished_at, r.train_images, r.val_images, m.against, m.judged_by, r.name, r.pinned,
         r.archived, r.best_epoch;

-- Each epoch of each run, the reported one included.
CREATE VIEW epoch_curve AS
SELECT e.run_id, r.kind, r.status, r.dataset, r.backbone, e.epoch, e.loss, e.val_loss, e.accuracy,
       e.map, e.decisions, e.learning_rate, e.images_per_second, e.seconds
FROM epoch_metric e
JOIN run r ON r.id = e.run_id;

-- Each attribute's scores in each run, beside trivial baselines; by eyes or against the labels, as in
-- run_summary. `degenerate`: the model says the same of nearly every image.
CREATE VIEW attribute_accuracy AS
SELECT m.run_id, r.kind, r.backbone, m.dataset, m.split, a.name AS attribute, a.group_name, m.n,
       m.positives, m.accuracy, m.accuracy_low, m.accuracy_high, m.all_absent_accuracy,
       m.prior_accuracy, m.ap, m.ap_low, m.ap_high, m.prior_ap, m.precision, m.recall, m.f1,
       m.balanced_accuracy, m.threshold, m.ece, m.probe_ap, m.precision_low, m.precision_high,
       m.recall_low, m.recall_high, m.f1_low, m.f1_high, m.balanced_accuracy_low,
       m.balanced_accuracy_high, m.ece_low, m.ece_high, m.specificity, m.specificity_low,
       m.specificity_high,
       CASE WHEN m.recall < 0.2 OR m.specificity < 0.2 THEN 1 ELSE 0 END AS degenerate,
       m.against,
       CASE WHEN m.positives < m.n - m.positives THEN m.positives ELSE m.n - m.positives END
         AS rarer_n,
       m.over_prior, m.over_prior_low, m.over_prior_high, m.over_probe, m.over_probe_low,
       m.over_probe_high
FROM attribute_metric m
JOIN run r ON r.id = m.run_id
AND m.against = (SELECT MIN(x.against) FROM attribute_metric x
                 WHERE x.run_id = m.run_id AND x.dataset = m.dataset AND x.split = m.split)
JOIN attribute a ON a.id = m.attribute_id;

-- The run to show of each dataset: the pinned one, else the best by val: of the finished trained runs
-- that are not archived, the one with the highest val mAP at its best epoch.
CREATE VIEW shown_run AS
SELECT ranked.dataset, ranked.run_id, ranked.pinned
FROM (SELECT r.dataset, r.id AS run_id, r.pinned,
             ROW_NUMBER() OVER (
               PARTITION BY r.dataset
               ORDER BY r.pinned DESC, COALESCE(e.map, -1) DESC, r.id DESC) AS place
      FROM run r
      LEFT JOIN epoch_metric e ON e.run_id = r.id AND e.epoch = r.best_epoch
      WHERE r.kind = 'trained' AND r.status = 'finished' AND NOT r.archived) ranked
WHERE ranked.place = 1;

-- What a run's predictions of each attribute can be trusted with, by eyes: a verdict and its reason.
-- Label precision and coverage are of the same judged cells, without their judgements.
CREATE VIEW trust AS
SELECT t.run_id, t.dataset, t.split, t.attribute, t.group_name,
       CASE
         WHEN t.against = 'labels' THEN 'not measured'
         WHEN t.rarer_n < 5 THEN 'too few cells'
         WHEN t.over_prior_low IS NULL THEN 'not measured'
         WHEN t.over_prior_low <= 0 OR t.degenerate = 1 OR t.over_probe_high < 0 THEN 'no'
         ELSE 'yes' END AS verdict,
       CASE
         WHEN t.against = 'labels' THEN 'nobody judged photos of this split'
         WHEN t.rarer_n < 5 THEN 'under 5 judged cells of the rarer state'
         WHEN t.over_prior_low IS NULL THEN 'scored by an older version: evaluate again'
         WHEN t.over_prior_high < 0 THEN 'worse than the prior'
         WHEN t.over_prior_low <= 0 THEN 'not distinguishable from the prior'
         WHEN t.over_probe_high < 0 THEN 'better than the prior, worse than the linear probe'
         WHEN t.specificity < 0.2 THEN 'better than the prior in order, but cannot say no'
         WHEN t.recall < 0.2 THEN 'better than the prior in order, but cannot say yes'
         WHEN t.over_probe_low > 0 THEN 'better than the prior and the linear probe'
         WHEN t.over_probe_low IS NULL THEN 'better than the prior, without a linear probe to compare'
         ELSE 'better than the prior, not distinguishable from the linear probe'
       END AS reason,
       t.against, t.n, t.positives, t.rarer_n,
       1.0 * (m.label_present_right + m.label_absent_right)
         / NULLIF(m.label_present + m.label_absent, 0) AS label_precision,
       m.label_present_right + m.label_absent_right AS labels_right,
       m.label_present + m.label_absent AS labels_judged,
       1.0 * (m.label_present + m.label_absent) / NULLIF(t.n, 0) AS label_coverage,
       t.ap, t.prior_ap, t.probe_ap, t.over_prior, t.over_prior_low, t.over_prior_high,
       t.over_probe, t.over_probe_low, t.over_probe_high, t.recall, t.specificity
FROM attribute_accuracy t
JOIN attribute a ON a.name = t.attribute
JOIN attribute_metric m
  ON m.run_id = t.run_id AND m.dataset = t.dataset AND m.split = t.split
  AND m.against = t.against AND m.attribute_id = a.id;
