"""The truth of the simulated shop: calibrated, complete, documented, and better than any model of the features."""

import numpy as np
import polars as pl
import pytest
import xgboost as xgb
from sklearn.metrics import roc_auc_score

from kernels.types import F32
from training import features
from training.datasets.shop import shop
from training.datasets.shop import table as shop_table
from training.datasets.shop import truth as shop_truth

ALARM = 4.5  # standard errors: below one false alarm in 10,000 tests


@pytest.fixture(scope="module")
def year() -> shop.Shop:
    return shop.simulate(20_000, seed=7)


@pytest.fixture(scope="module")
def coded(year: shop.Shop) -> F32:
    """Return the features as a model sees them: float32 [sessions, features], categories by a learnt vocabulary."""
    vocabulary = features.Vocabulary.fit({name: year.sessions[name].to_list() for name in features.CATEGORIES})
    out = shop_table.numbers(year.sessions)
    for name in features.CATEGORIES:
        out[:, features.INDEX[name]] = [vocabulary.code(name, value) for value in year.sessions[name]]
    return out


def test_about_one_session_in_seven_buys_and_two_in_three_are_anonymous(year: shop.Shop) -> None:
    assert 0.12 < year.sessions["purchased"].mean() < 0.18  # type: ignore[operator]
    assert 0.63 < year.sessions["customerId"].is_null().mean() < 0.67  # type: ignore[operator]


def test_the_true_probability_is_the_documented_formula_of_the_tables(year: shop.Shop) -> None:
    table = year.sessions.join(year.truth, on="sessionId", maintain_order="left").with_columns(pl.col(pl.Float32).cast(pl.Float64))
    held = (pl.col("cartAddCount") > pl.col("cartRemoveCount")).cast(pl.Float64)
    formula = {
        "intent": pl.col("intent"),
        "cartHeld": held,
        "keenCart": pl.col("intent") * held,
        "furtherItems": (pl.col("cartAddCount") - pl.col("cartRemoveCount") - 1).clip(0, 3),
        "checkoutBegun": (pl.col("checkoutCount") > 0).cast(pl.Float64),
        "productMinutes": (pl.col("productSeconds") / 60 + 1).log(),
        "appeal": pl.col("appealSeen"),
        "priceStrain": pl.col("priceSensitivity") * pl.col("pricePressureSeen"),
        "friction": pl.col("friction"),
        "rage": pl.col("rageClickCount").clip(0, 3),
        "mobile": (pl.col("deviceType") == "mobile").cast(pl.Float64),
        "evening": ((pl.col("timeOfDay") - 20.5) * 2 * np.pi / 24).cos(),
        "returning": (pl.col("visitorType") == "returning").cast(pl.Float64),
        "loyalty": pl.col("loyalty"),
        "specialDay": pl.col("specialDay"),
        "weekend": pl.col("weekend"),
    }
    assert formula.keys() == shop_truth.TERMS.keys()
    log_odds = pl.sum_horizontal(weight * formula[name] for name, weight in shop_truth.TERMS.items()) + shop_truth.INTERCEPT
    again = table.select(1 / (1 + (-log_odds).exp())).to_series()
    np.testing.assert_allclose(again, year.truth["purchaseProbability"], rtol=1e-9)


def test_the_truth_is_calibrated_in_every_decile(year: shop.Shop) -> None:
    table = year.sessions.join(year.truth, on="sessionId").sort("purchaseProbability")
    for tenth in table.iter_slices(table.height // 10):
        probability, bought = tenth["purchaseProbability"].to_numpy(), tenth["purchased"].to_numpy()
        error = np.sqrt(np.sum(probability * (1 - probability)))
        assert abs(bought.sum() - probability.sum()) < ALARM * error


def test_no_feature_explains_the_residual_of_the_truth(year: shop.Shop, coded: F32) -> None:
    """A leak would appear here: the outcome less its true probability correlates with no feature, nor with its being missing."""
    probability, bought = year.truth["purchaseProbability"].to_numpy(), year.sessions["purchased"].to_numpy()
    for name, column in features.INDEX.items():
        values = coded[:, column].astype(np.float64)
        levels = [values == code for code in np.unique(values[~np.isnan(values)])] if name in features.CATEGORIES else []
        for probe in (np.nan_to_num(values - np.nanmean(values)), np.isnan(values), *levels):
            left = np.sum((bought - probability) * probe)
            assert abs(left) <= ALARM * np.sqrt(np.sum(probability * (1 - probability) * np.square(probe))), name


def test_a_model_of_the_features_is_good_and_the_truth_is_better(year: shop.Shop, coded: F32) -> None:
    bought, half = year.sessions["purchased"].to_numpy(), year.sessions.height // 2
    parameters = {"objective": "binary:logistic", "max_depth": 4, "eta": 0.1, "nthread": 1, "seed": 1}
    model = xgb.train(parameters, xgb.DMatrix(coded[:half], bought[:half]), 80)
    learnt = roc_auc_score(bought[half:], model.predict(xgb.DMatrix(coded[half:])))
    truth = roc_auc_score(bought[half:], year.truth["purchaseProbability"][half:])
    assert 0.80 < learnt < 0.92
    assert learnt + 0.02 < truth < 0.97


def test_the_total_spend_agrees_with_its_expectation(year: shop.Shop) -> None:
    probability, value = (year.truth[name].to_numpy() for name in ("purchaseProbability", "orderValueIfBought"))
    error = np.sqrt(np.sum(value**2 * probability * (1 - probability)))
    assert abs(year.sessions["orderValue"].sum() - np.sum(probability * value)) < ALARM * error


def test_a_customers_value_is_the_expected_spend_of_their_sessions(year: shop.Shop) -> None:
    worth = (
        year.sessions.select("sessionId", "customerId")
        .join(year.truth, on="sessionId")
        .drop_nulls("customerId")
        .group_by("customerId")
        .agg((pl.col("purchaseProbability") * pl.col("orderValueIfBought")).sum().alias("worth"))
    )
    both = year.truth_customers.join(worth, on="customerId", how="left").fill_null(0)
    np.testing.assert_allclose(both["value"], both["worth"], rtol=1e-9)


def test_friction_shows_as_waiting_and_rage_clicks(year: shop.Shop) -> None:
    table = year.sessions.join(year.truth, on="sessionId").sort("friction")
    third = table.height // 3
    for name in ("waitSeconds", "rageClickCount"):
        by_event = table[name] / table["eventCount"]
        assert by_event.tail(third).mean() > 1.5 * by_event.head(third).mean()  # type: ignore[operator]


def test_sales_are_one_row_a_product_and_week_within_stock(year: shop.Shop) -> None:
    assert year.sales.select("product", "period").is_duplicated().any() is False
    assert year.sales.height == year.products.height * 52
    assert {day.weekday() for day in year.sales["period"].unique()} == {0}
    assert (year.sales["quantity"] <= year.sales["stock"]).all()
    assert (year.sales["quantity"] >= 0).all()
    assert (year.sales["price"] > year.sales["cost"]).mean() > 0.98  # type: ignore[operator]


def test_a_regression_of_sales_finds_the_true_elasticities(year: shop.Shop) -> None:
    """By product, log quantity on log price, log competitor price and promotion, less what all products have in common in a week."""
    sales = year.sales.filter((pl.col("quantity") > 0) & (pl.col("quantity") < pl.col("stock")))
    columns = [pl.col("quantity").log(), pl.col("price").log(), pl.col("competitorPrice").log(), pl.col("promotion").cast(pl.Float64)]
    logs = sales.select("product", "period", *columns)
    for key in ("product", "period", "product"):
        logs = logs.with_columns(pl.col(sales_column) - pl.col(sales_column).mean().over(key) for sales_column in logs.columns[2:])
    found = []
    for _, frame in logs.group_by("product", maintain_order=True):
        values = frame.select(logs.columns[2:]).to_numpy()
        found.append(np.linalg.lstsq(values[:, 1:], values[:, 0], rcond=None)[0][0])
    true = year.truth_products["elasticity"].to_numpy()
    assert np.mean(found) == pytest.approx(true.mean(), abs=0.15)
    assert np.corrcoef(found, true)[0, 1] > 0.5
