"""MLflow as a view of the records that stages leave."""
