"""The control plane: a kopf operator that reconciles ModelTraining, ModelDeployment and ModelMonitor."""

__version__ = "0.1.0"
