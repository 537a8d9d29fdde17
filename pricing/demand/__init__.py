"""The demand model: LSTM forecasts, price elasticities by double machine learning, validation and metrics."""
