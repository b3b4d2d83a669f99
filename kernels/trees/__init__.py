"""Tree ensembles: margins, SHAP values and objectives of XGBoost models."""
