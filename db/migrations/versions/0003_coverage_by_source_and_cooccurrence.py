"""Views: coverage by source, and how often attributes occur together

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

VIEWS = {
    "dataset_coverage_by_source": """
        SELECT i.dataset, a.name AS attribute, a.group_name, e.source,
               COUNT(DISTINCT CASE WHEN e.state = 'present' THEN i.id END) AS present,
               COUNT(DISTINCT CASE WHEN e.state = 'absent' THEN i.id END) AS absent,
               1.0 * COUNT(DISTINCT i.id) / n.images AS coverage
        FROM attribute_evidence e JOIN image i ON i.id = e.image_id JOIN attribute a ON a.id = e.attribute_id
        JOIN (SELECT dataset, COUNT(*) AS images FROM image WHERE rule_version IS NOT NULL GROUP BY dataset) n
          ON n.dataset = i.dataset
        GROUP BY i.dataset, a.id, a.name, a.group_name, e.source, n.images""",
    "attribute_cooccurrence": """
        SELECT i.dataset, a.name AS attribute, b.name AS other,
               SUM(CASE WHEN y.state = 'present' THEN 1 ELSE 0 END) AS both_present, COUNT(*) AS n,
               1.0 * SUM(CASE WHEN y.state = 'present' THEN 1 ELSE 0 END) / COUNT(*) AS share
        FROM image_attribute x
        JOIN image_attribute y ON y.image_id = x.image_id AND y.attribute_id <> x.attribute_id AND y.state <> 'unknown'
        JOIN image i ON i.id = x.image_id
        JOIN attribute a ON a.id = x.attribute_id JOIN attribute b ON b.id = y.attribute_id
        WHERE x.state = 'present'
        GROUP BY i.dataset, a.id, a.name, b.id, b.name""",
}


def upgrade() -> None:
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def downgrade() -> None:
    for name in VIEWS:
        op.execute(f"DROP VIEW {name}")
