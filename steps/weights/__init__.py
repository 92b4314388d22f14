"""Pretrained weights from elsewhere: read, mapped onto a network by key, counted, with their preprocessing."""
