-- Create the databases of a new PostgreSQL, and roles with no more rights than they need.
-- The image runs this once, as superuser.
\set ON_ERROR_STOP on
\getenv owner_password OWNER_PASSWORD
\getenv writer_password WRITER_PASSWORD
\getenv dashboard_password DASHBOARD_PASSWORD
\getenv reviewer_password REVIEWER_PASSWORD
\getenv prefect_password PREFECT_DATABASE_PASSWORD

CREATE ROLE coconut_owner LOGIN PASSWORD :'owner_password'; -- migrations, backups
CREATE ROLE coconut_writer LOGIN PASSWORD :'writer_password'; -- workers: rows, no schema
CREATE ROLE coconut_dashboard LOGIN PASSWORD :'dashboard_password'; -- SELECT alone
CREATE ROLE coconut_reviewer LOGIN PASSWORD :'reviewer_password'; -- INSERT of judgements alone
CREATE ROLE prefect LOGIN PASSWORD :'prefect_password'; -- Prefect's own state is in a database of its own
CREATE DATABASE coconut_attr OWNER coconut_owner;
CREATE DATABASE prefect OWNER prefect;
REVOKE ALL ON DATABASE coconut_attr FROM PUBLIC;
REVOKE ALL ON DATABASE prefect FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE coconut_attr TO coconut_writer; -- bulk updates pass through a temporary table
GRANT CONNECT ON DATABASE coconut_attr TO coconut_dashboard, coconut_reviewer; -- the latter: db upgrade --reviewer
ALTER ROLE coconut_dashboard SET default_transaction_read_only = on;

\connect coconut_attr
ALTER DEFAULT PRIVILEGES FOR ROLE coconut_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO coconut_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE coconut_owner IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO coconut_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE coconut_owner IN SCHEMA public GRANT SELECT ON TABLES TO coconut_dashboard;
