-- Prefect keeps its own state apart from the attribute store.
CREATE DATABASE prefect;
