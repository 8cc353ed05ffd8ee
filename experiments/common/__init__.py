"""What two or more experiments share."""
